# esb in a container: no root, no build tools, a root file system that may be read-only. The table, its contracts and its
# store are mounted at /bus.
FROM python:3.11-slim AS build
WORKDIR /src
COPY . .
RUN python -m venv /opt/esb
RUN /opt/esb/bin/pip install --no-cache-dir --require-hashes -r .ci/requirements.lock
RUN /opt/esb/bin/pip install --no-cache-dir --no-deps .

FROM python:3.11-slim
RUN useradd --create-home --uid 10001 esb && install -d -o esb /bus /bus/var
COPY --from=build /opt/esb /opt/esb
ENV PATH=/opt/esb/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /bus
USER 10001
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["esb", "status", "-f", "/bus/routes.toml"]
STOPSIGNAL SIGTERM
CMD ["esb", "run", "-f", "/bus/routes.toml"]
