"""Transfer syntaxes: what is read, and what is said of the others."""

from pathlib import Path

import pytest
from dicom_files import pydicom, uid

from utils.core.script import UserError
from utils.data.dicom_syntax import plugin_of, require_readable, stated_or_seen


def test_every_syntax_that_the_packages_decode_is_read_and_every_other_is_named():
    for name in dir(uid):
        syntax = getattr(uid, name)
        if not isinstance(syntax, uid.UID) or not syntax.is_transfer_syntax:
            continue
        try:
            is_decoded = pydicom.pixels.get_decoder(syntax).is_available
        except NotImplementedError:
            is_decoded = False
        if is_decoded:
            require_readable(syntax, 8, Path("a"))
        else:
            with pytest.raises(UserError) as caught:
                require_readable(syntax, 8, Path("a"))
            assert str(caught.value).startswith(
                f"a: its transfer syntax is {syntax.name} ({syntax})"
            )


def test_without_gdcm_jpeg_lossless_is_refused_and_the_command_named(
    monkeypatch: pytest.MonkeyPatch,
):
    decoder = pydicom.pixels.get_decoder(uid.JPEGLosslessSV1)
    monkeypatch.setattr(decoder, "_available", {})
    with pytest.raises(UserError, match=r"JPEG Lossless.* pip install '\.\[dicom\]'"):
        require_readable(uid.JPEGLosslessSV1, 8, Path("a"))


def test_gdcm_decodes_only_what_nothing_else_does():
    """It ends the process at some damaged files."""
    for syntax in (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEG2000Lossless):
        assert plugin_of(syntax, 8) == "pillow"
    assert plugin_of(uid.JPEGLSLossless, 12) == plugin_of(uid.JPEGLosslessSV1, 8) == "gdcm"
    assert plugin_of(uid.JPEG2000, 12) == plugin_of(uid.RLELossless, 8) == ""


def test_jpeg_of_12_bits_is_read_where_its_package_is_installed(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError, match="pylibjpeg-libjpeg"):
        require_readable(uid.JPEGExtended12Bit, 12, Path("a"))
    decoder = pydicom.pixels.get_decoder(uid.JPEGExtended12Bit)
    monkeypatch.setattr(decoder, "_available", {"pylibjpeg": print})
    require_readable(uid.JPEGExtended12Bit, 12, Path("a"))


def test_a_file_that_states_no_syntax_is_in_the_one_that_it_is_seen_to_be_in():
    assert stated_or_seen(uid.JPEG2000, (True, True)) == uid.JPEG2000
    assert stated_or_seen(None, (True, True)) == uid.ImplicitVRLittleEndian
    assert stated_or_seen(None, (False, False)) == uid.ExplicitVRBigEndian
