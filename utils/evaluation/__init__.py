"""How good predictions are.

In: a model and a loader, or `ImageResult`s, each the truth and the prediction of a frame. Out:
metrics as plain types that JSON can hold (`summary`), and tables of them. A figure that is
undefined, such as the recall of a class without a true box, is NaN inside and None in what
`summarise` returns; it is left out of means.
"""
