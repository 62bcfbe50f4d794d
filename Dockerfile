# esb in a container: no root, no build tools, nothing written but /bus/var and the folders of the table.
FROM python:3.11-slim AS build
WORKDIR /src
RUN python -m venv /opt/esb
COPY .ci/requirements.lock .ci/requirements.lock
RUN /opt/esb/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r .ci/requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY esb esb
COPY plugins plugins
COPY docs/errors docs/errors
RUN /opt/esb/bin/pip wheel --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir /wheels .
RUN /opt/esb/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --no-index --find-links /wheels esb
RUN /opt/esb/bin/pip uninstall --yes setuptools pip
RUN /opt/esb/bin/esb --version

FROM python:3.11-slim
RUN useradd --no-create-home --home-dir /bus --uid 10001 --user-group esb
RUN install -d -o esb -g esb -m 0700 /bus/var
COPY --from=build /opt/esb /opt/esb
ENV PATH=/opt/esb/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /bus
USER 10001:10001
VOLUME /bus/var
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s CMD ["esb", "status", "--running", "-f", "/bus/routes.toml"]
CMD ["esb", "run", "-f", "/bus/routes.toml"]
