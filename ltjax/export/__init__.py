"""Export: a finished run as one file that needs no ltjax.

python -m ltjax.export --workdir=runs/mine --to=onnx --out=shipped
"""
