"""Folders at URLs, such as `s3://bucket/bank`, and the folders of this machine that mirror them.

    XDG_CACHE_HOME/otoscope/remote/<name>-<digest of the URL>/.url        the URL
                                                              .versions   versions of the files that were downloaded
                                                              .pending/   files that have not been uploaded yet
                                                              ...         copies of files

Everything else works on the mirror as on any folder. What is written into it is uploaded, what is read is downloaded
first, and the copies may be deleted at any time, except while files are pending. An object of an object store appears
completely or not at all. The protocols are those of fsspec (https://filesystem-spec.readthedocs.io), an extra:
`pip install "otoscope[remote]"`, and for `s3://` also s3fs, for `gs://` gcsfs.
"""

from otoscope.remote.mirror import Mirror, RemoteError, RemoteFile
from otoscope.remote.place import is_url, local_folder, shown

__all__ = ["Mirror", "RemoteError", "RemoteFile", "is_url", "local_folder", "shown"]
