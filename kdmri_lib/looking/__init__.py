"""Looking inside a reconstruction: a viewer of one slice by several methods, live in a notebook or as an HTML page.

`views` computes what is shown, `viewer.js` shows it, `widget` asks a kernel for it as one looks, `page` embeds it.
"""
