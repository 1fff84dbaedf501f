"""Pages to look at: a run, a comparison, the labels to doubt.

In come the files of run folders and, for the frames, the data set that they are about; out goes one
HTML file without a server, whose scripts, styles and figures are in it. Patients' pictures are
referred to by relative path. `uPlot` draws the curves (https://github.com/leeoniya/uPlot, MIT, its
licence lies beside it): 51 kB, where Plotly's smallest bundle has 1 MB and Chart.js 200 kB, and
nothing but what is needed, lines with values under the cursor.
"""
