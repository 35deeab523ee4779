"""Whether a file is on a network disk, where the locks of SQLite do not work."""

from __future__ import annotations

import re
from pathlib import Path

_NETWORK = frozenset(
    {
        *("9p", "afs", "beegfs", "beegfs_nodev", "ceph", "cifs", "gfs2", "glusterfs", "gpfs", "lustre", "nfs", "nfs4"),
        *("ocfs2", "orangefs", "panfs", "smb2", "smb3", "smbfs", "wekafs"),
        *("fuse.ceph", "fuse.glusterfs", "fuse.juicefs", "fuse.s3fs", "fuse.sshfs"),
    }
)
"""File systems of several machines, as Linux calls them."""

_MOUNTS = Path("/proc/self/mountinfo")


def network_file_system(path: Path) -> str | None:
    """The name of the network file system that contains a path; None for a local disk, and where Linux does not say.

    Parameters
    ----------
    path : a file or folder that need not exist.

    Examples
    --------
    >>> network_file_system(Path("/proc/self")) is None
    True
    """
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    resolved, depth, system = path.absolute().resolve(), -1, ""
    for line in lines:  # 36 35 98:0 /root /mount/point options - type source options; later mounts hide earlier ones
        before, _, after = line.partition(" - ")
        if len(before.split()) < 5 or not after:
            continue
        point = Path(re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), before.split()[4]))
        if resolved.is_relative_to(point) and len(point.parts) >= depth:
            depth, system = len(point.parts), after.split()[0]
    return system if system in _NETWORK else None
