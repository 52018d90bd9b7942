"""Our texts in other languages: ``zh_CN.po``, how it is applied (`catalogue`), and what belongs in it (`extract`)."""
