"""Names of images: ``[REGISTRY/]REPOSITORY[:TAG][@DIGEST]``, read as the ``docker`` command reads them."""

from __future__ import annotations

from dataclasses import dataclass

#: The registry of names that don't begin with one.
DOCKER_HUB = "docker.io"
#: NVIDIA's registry.
NGC = "nvcr.io"


@dataclass(frozen=True)
class ImageName:
    """The parts of an image's name; ``tag`` is empty where a digest stands without one."""

    registry: str
    repository: str
    tag: str
    digest: str

    @property
    def version(self) -> str:
        """What the engine pulls of the repository: the digest where there is one, else the tag."""
        return self.digest or self.tag

    @property
    def origin(self) -> str:
        """Registry and repository, as the engine takes them."""
        return self.repository if self.registry == DOCKER_HUB else f"{self.registry}/{self.repository}"


def parse_name(text: str) -> ImageName:
    """Take an image's name apart.

    The first part is a registry where it has a dot or a colon, or is ``localhost``; otherwise the image is one of
    Docker Hub's (distribution's reference grammar).
    """
    rest, _, digest = text.partition("@")
    first, slash, path = rest.partition("/")
    registry = DOCKER_HUB
    if slash and ("." in first or ":" in first or first == "localhost"):
        registry, rest = ("docker.io" if first == "index.docker.io" else first), path
    head, colon, tag = rest.rpartition(":")
    repository, tag = (head, tag) if colon and "/" not in tag else (rest, "")
    return ImageName(registry, repository, tag or ("" if digest else "latest"), digest)
