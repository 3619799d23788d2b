"""The API: one module per kind, index ranges, attempt records and amounts; nothing but data and validation.

Every kind is a pair of pydantic models (`…Spec`, `…Status`) and one `Kind` value that says how the API
server should present it. `kinds.ALL` lists them; `crd.render` turns a `Kind` into its definition.
"""
