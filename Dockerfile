# syntax=docker/dockerfile:1
FROM docker.io/library/rust:1-bookworm AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends cmake g++ make pkg-config libclang-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src ./src
RUN cargo build --locked --release --bin frontgate \
 && strip target/release/frontgate \
 && mkdir -p /out/var/lib/frontgate /out/etc/frontgate

FROM docker.io/library/debian:bookworm-slim
LABEL org.opencontainers.image.title="Frontgate" \
      org.opencontainers.image.description="Reverse proxy for Lync, Skype for Business, Exchange and Office Web Apps" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates libstdc++6 \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /src/target/release/frontgate /usr/local/bin/frontgate
COPY --from=build --chown=65532:65532 --chmod=0700 /out/var/lib/frontgate /var/lib/frontgate
COPY --from=build /out/etc/frontgate /etc/frontgate
# Nothing is written outside /var/lib/frontgate, so the root file system can be read-only. The
# listeners of the configuration are 8443 and 8080 with public_port 443 and 80: publish them as
# -p 443:8443 -p 80:8080.
USER 65532:65532
VOLUME /var/lib/frontgate
EXPOSE 8443 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s CMD ["/usr/local/bin/frontgate", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/frontgate"]
CMD ["run"]
