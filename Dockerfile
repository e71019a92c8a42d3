# The proxy alone, as an unprivileged user. Not built by the CI, which has no docker; build it with `make image`.

FROM rust:1-bookworm AS builder
RUN apt-get update \
    && apt-get install -y --no-install-recommends cmake \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# The caches outlive the layer, so a changed source does not build pingora again; the program is copied out of them.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --profile dist -p foreshade-proxy \
    && cp target/dist/foreshade-proxy /usr/local/bin/foreshade-proxy

FROM debian:bookworm-slim
RUN useradd --system --uid 65532 --no-create-home --shell /usr/sbin/nologin foreshade
COPY --from=builder /usr/local/bin/foreshade-proxy /usr/local/bin/foreshade-proxy
# A stand-in, on loopback: mount your own file over it.
COPY configs/quickstart.yaml /etc/foreshade/foreshade.yaml
# A configuration that was not meant for this version stops the build and not the container.
RUN ["foreshade-proxy", "check", "--config", "/etc/foreshade/foreshade.yaml"]
# By number, so that an orchestrator can see that it is not root.
USER 65532
# Users; the admin interface (9901) stays on loopback inside the container unless the configuration says otherwise.
EXPOSE 8080
# SIGTERM is what the proxy drains on. No HEALTHCHECK: /livez and /readyz are for the orchestrator to ask.
STOPSIGNAL SIGTERM
ENTRYPOINT ["foreshade-proxy"]
CMD ["run", "--config", "/etc/foreshade/foreshade.yaml"]
