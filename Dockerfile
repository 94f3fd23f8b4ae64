FROM docker.io/library/rust:1-bookworm AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates cmake g++ make pkg-config libclang-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src ./src
# Nothing here needs BuildKit, which Debian's Docker does not use by itself.
RUN cargo build --locked --release --bin frontgate \
 && install -D -m 0755 target/release/frontgate /out/usr/local/bin/frontgate \
 && strip /out/usr/local/bin/frontgate \
 && rm -rf target "$CARGO_HOME/registry"
# What the program needs to run, and nothing besides: the libraries it is linked with, the
# authorities of the web, a name for the user. No shell, no package manager, no other program.
RUN ldd /out/usr/local/bin/frontgate | grep -o '/[^ ]*' | sort -u > /libraries \
 && tar -C / -chf - $(cut -c2- /libraries) | tar -C /out -xf - \
 && install -d -m 0755 /out/etc/frontgate /out/etc/ssl/certs /out/usr/share/doc/frontgate \
 && install -m 0644 /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/ \
 && ln -s certs/ca-certificates.crt /out/etc/ssl/cert.pem \
 && echo 'frontgate:x:65532:65532:Frontgate:/var/lib/frontgate:/sbin/nologin' > /out/etc/passwd \
 && echo 'frontgate:x:65532:' > /out/etc/group \
 && echo 'hosts: files dns' > /out/etc/nsswitch.conf \
 && for package in libc6 libgcc-s1 libstdc++6 ca-certificates; do \
      install -m 0644 "/usr/share/doc/$package/copyright" "/out/usr/share/doc/frontgate/$package.copyright"; \
    done
COPY LICENSE /out/usr/share/doc/frontgate/LICENSE
RUN install -d -m 0700 -o 65532 -g 65532 /state

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
# Where these sources are published: https://…
ARG SOURCE=
LABEL org.opencontainers.image.title="Frontgate" \
      org.opencontainers.image.description="Reverse proxy for Lync, Skype for Business, Exchange and Office Web Apps" \
      org.opencontainers.image.source="$SOURCE" \
      org.opencontainers.image.documentation="$SOURCE" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /out /
COPY --from=build --chown=65532:65532 /state /var/lib/frontgate
# Nothing is written outside /var/lib/frontgate, so the root file system can be read-only. Ports
# below 1024 need a capability that this user does not have: let the listeners be 8443 and 8080
# with public_port 443 and 80, and publish them as -p 443:8443 -p 80:8080.
USER 65532:65532
# Temporary files of `lab`, which from outside the container is reached at every address of it.
ENV TMPDIR=/var/lib/frontgate FRONTGATE_LAB_ADDRESS=0.0.0.0
VOLUME /var/lib/frontgate
EXPOSE 8443 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s CMD ["/usr/local/bin/frontgate", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/frontgate"]
CMD ["run"]
