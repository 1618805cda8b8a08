"""Files and Parquet tables on local disks and on any fsspec URI."""
