# One image for all programs: `fallow hub|settler|agent|probe`. Build it with any builder, or with hack/image.
# BASE needs python3 (3.11 or newer) with venv, and no compiler: everything is installed from wheels.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
# Where packages come from and whom to trust, where the builder's network needs telling; never in the image.
ARG PIP_INDEX_URL
ARG PIP_CERT
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ONLY_BINARY=:all:
WORKDIR /source
COPY constraints.txt hack/devkit/pinned.py ./
# Everything by the versions and hashes of constraints.txt. No build isolation: it would fetch an unpinned backend.
RUN python3 -m venv /build \
 && python3 pinned.py constraints.txt --versions > versions.txt \
 && /build/bin/pip install --quiet --dry-run --report - --constraint versions.txt hatchling editables > report.json \
 && python3 pinned.py constraints.txt < report.json > build.txt \
 && /build/bin/pip install --quiet --require-hashes --no-deps -r build.txt
COPY pyproject.toml README.md LICENSE ./
COPY operator operator
RUN /build/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheels . \
 && python3 -m venv --without-pip /opt/fallow \
 && pip="/build/bin/pip --python /opt/fallow/bin/python" \
 && wheel="$(echo /wheels/fallow-*.whl)" \
 && $pip install --quiet --dry-run --report - --constraint versions.txt "${wheel}[settler,probe,s3]" > report.json \
 && python3 pinned.py constraints.txt < report.json > run.txt \
 && $pip install --quiet --require-hashes --no-deps -r run.txt \
 && $pip install --quiet --no-deps "${wheel}"
COPY hack/devkit/sbom.py /sbom.py
RUN /opt/fallow/bin/python /sbom.py > /opt/fallow/sbom.cdx.json

FROM ${BASE}
ARG VERSION=0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="fallow" \
      org.opencontainers.image.description="Idle GPU clusters become one pool: hub, settler, agent and probe" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      dev.fallow.sbom="/opt/fallow/sbom.cdx.json"
COPY --from=build /opt/fallow /opt/fallow
# The root file system is read-only where the charts run it; /tmp is theirs to mount.
ENV PATH=/opt/fallow/bin:/usr/local/bin:/usr/bin:/bin PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /
USER 65532:65532
ENTRYPOINT ["/opt/fallow/bin/fallow"]
CMD ["--help"]
