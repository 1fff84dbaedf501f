"""The process that `utils.data.dicom_process` starts: it decodes a DICOM file that it is named."""

from __future__ import annotations

import sys

from utils.core.terminal import one_line
from utils.data.dicom import open_dicom
from utils.data.dicom_process import write_frames


def main() -> None:
    try:
        write_frames(open_dicom(sys.argv[1]).decoded_here())
    except Exception as error:  # a damaged file can raise anything
        sys.exit(one_line(str(error)))


if __name__ == "__main__":
    main()
