"""Small versions of named encoders, for tests on the CPU."""

from dataclasses import replace

from otoscope.encoders.catalog import Ported


def small(cls: type[Ported], **sizes) -> type[Ported]:
    """A subclass with other sizes in its config, of the same name and revision, which is not registered.

    Parameters
    ----------
    cls : a model with the class attribute `config`, a dataclass.
    sizes : fields of the config.
    """
    attributes = {"config": replace(cls.config, **sizes), "revision": 1, "__module__": cls.__module__}
    return type(f"Small{cls.__name__}", (cls,), attributes)
