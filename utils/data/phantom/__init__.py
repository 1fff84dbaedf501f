"""The embedded data set: colour-Doppler echocardiography frames, drawn, with exact boxes and views.

In: a folder and a seed. Out: images and label files; the same seed gives the same bytes. So the
order of the random draws is a contract: calls that take `rng` must not change places.
"""
