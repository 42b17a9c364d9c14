"""What importing costs: ``import pyodl`` beside ``import numpy``, which it includes."""


class Import:
    def timeraw_import(self):
        return "import pyodl"

    def timeraw_import_numpy(self):
        return "import numpy"

    def timeraw_import_all(self):
        return "import pyodl.bench"
