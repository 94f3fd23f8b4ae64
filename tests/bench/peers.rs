//! The three proxies with equal settings, and the server behind them.

use std::{
    fmt::Write as _,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::process::Process;
use crate::support::until;

/// Publishes by HTTP/1.1.
pub const HOST: &str = "lyncweb.contoso.com";
/// Publishes by HTTP/2 too: Frontgate offers it only where nobody signs in by NTLM.
pub const HOST_H2: &str = "wac.contoso.com";
/// What the server is called on its certificate.
const SERVER: &str = "fe.contoso.local";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Frontgate,
    Nginx,
    HaProxy,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Frontgate, Self::Nginx, Self::HaProxy];

    pub fn name(self) -> &'static str {
        match self {
            Self::Frontgate => "Frontgate",
            Self::Nginx => "nginx",
            Self::HaProxy => "HAProxy",
        }
    }

    /// The signal that asks for a reload.
    pub fn reload(self) -> i32 {
        match self {
            Self::Frontgate | Self::Nginx => libc::SIGHUP,
            Self::HaProxy => libc::SIGUSR2,
        }
    }

    pub fn version(self) -> String {
        let (program, argument, from) = match self {
            Self::Frontgate => return env!("CARGO_PKG_VERSION").to_owned(),
            Self::Nginx => ("/usr/sbin/nginx", "-v", "nginx/"),
            Self::HaProxy => ("/usr/sbin/haproxy", "-v", "version "),
        };
        let told = Command::new(program).arg(argument).output().unwrap();
        let told = String::from_utf8_lossy(&[told.stdout, told.stderr].concat()).into_owned();
        let version = told.split(from).nth(1).unwrap_or_default();
        version.split([' ', '-', '\n']).next().unwrap_or_default().to_owned()
    }
}

/// A running proxy.
pub struct Peer {
    pub process: Process,
    /// Its configuration.
    pub file: PathBuf,
    /// Its listener with the RSA certificate.
    pub rsa: SocketAddr,
    /// Its listener with the ECDSA certificate.
    pub ecdsa: SocketAddr,
}

impl Peer {
    /// Starts one with so many workers; `published` names besides those of the bench, and so many
    /// servers (the same one, under many addresses).
    pub fn start(kind: Kind, dir: &Path, server: &Server, scale: Scale) -> Self {
        let dir = dir.join(format!("{}-{}", kind.name(), scale.number()));
        std::fs::create_dir_all(&dir).unwrap();
        let (rsa, ecdsa) = (free("127.0.0.1"), free("127.0.0.1"));
        let text = match kind {
            Kind::Frontgate => frontgate(rsa, ecdsa, server, scale),
            Kind::Nginx => nginx(&dir, rsa, ecdsa, server, scale),
            Kind::HaProxy => haproxy(rsa, ecdsa, server, scale),
        };
        let file = dir.join("config");
        std::fs::write(&file, text).unwrap();
        let mut command = match kind {
            Kind::Frontgate => {
                let mut command = Command::new(binary());
                command.args(["run", "--config"]).arg(&file).env("RUST_LOG", "warn");
                command
            }
            Kind::Nginx => {
                let mut command = Command::new("/usr/sbin/nginx");
                command.arg("-c").arg(&file).arg("-e").arg(dir.join("error.log"));
                command
            }
            Kind::HaProxy => {
                let mut command = Command::new("/usr/sbin/haproxy");
                // A master, so that a signal reloads it.
                command.args(["-W", "-f"]).arg(&file);
                command
            }
        };
        let log = dir.join("output.log");
        let mut process = Process::start(&mut command, &log);
        until(kind.name(), Duration::from_secs(60), || {
            let told = || std::fs::read_to_string(&log).unwrap_or_default();
            assert!(!process.ended(), "{} ended: {}", kind.name(), told());
            TcpStream::connect(ecdsa).ok().and(TcpStream::connect(rsa).ok())
        });
        Self { process, file, rsa, ecdsa }
    }
}

/// How large a configuration is.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    pub workers: usize,
    /// Published names besides the two of the bench.
    pub hosts: usize,
    pub servers: usize,
    pub farms: usize,
}

impl Scale {
    pub const ONE: Self = Self { workers: 1, hosts: 0, servers: 1, farms: 0 };

    /// A worker for every core.
    pub fn all_cores() -> Self {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        Self { workers, ..Self::ONE }
    }

    fn number(self) -> String {
        format!("{}-{}-{}-{}", self.workers, self.hosts, self.servers, self.farms)
    }
}

/// The binary that is measured: what `make bench` has built.
pub fn binary() -> PathBuf {
    std::env::var_os("FRONTGATE").expect("FRONTGATE is not set: run `make bench`").into()
}

fn free(ip: &str) -> SocketAddr {
    TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap()
}

/// The configuration of a Frontgate; also for reloads.
pub fn frontgate(rsa: SocketAddr, ecdsa: SocketAddr, server: &Server, scale: Scale) -> String {
    let port = server.address.port();
    let ca = server.dir.join("internal-ca.pem");
    let dir = server.dir.display();
    let servers: Vec<_> = (0..scale.servers)
        .map(|n| format!("{{ name: s{n}, address: {}, ports: {{ https: {port} }} }}", loopback(n)))
        .collect();
    let farm = |auth: &str| {
        format!(
            "{{ servers: [{}], tls: {{ ca: {}, name: {SERVER} }}, connection_auth: {auth}, \
             timeout: 1800s, server_idle: 60s }}",
            servers.join(", "),
            ca.display()
        )
    };
    let mut text = format!(
        "admin: {{ listen: 127.0.0.1:0 }}
state_dir: state
access_log: {{ format: combined, path: access.log }}
workers: {}
domains: [contoso.com]
limits: {{ connections: 9500, connections_per_source: 9500 }}
listeners:
  - {{ name: rsa, address: \"{rsa}\", tls: true }}
  - {{ name: ecdsa, address: \"{ecdsa}\", tls: true }}
certificates:
  - {{ cert: {dir}/public.pem, key: {dir}/public.key }}
  - {{ cert: {dir}/public-ecdsa.pem, key: {dir}/public-ecdsa.key }}
farms:
  signs: {}
  plain: {}
",
        scale.workers,
        farm("auto"),
        farm("off"),
    );
    for n in 0..scale.farms {
        let (address, ca) = (loopback(n), ca.display());
        let _ = writeln!(
            text,
            "  f{n}: {{ servers: [{{ name: x{n}, address: {address}, ports: {{ https: {port} }} }}], \
             tls: {{ ca: {ca}, name: {SERVER} }} }}"
        );
    }
    text += &format!(
        "publish:\n  - {{ host: {HOST}, farm: signs }}\n  - {{ host: {HOST_H2}, farm: plain }}\n"
    );
    for n in 0..scale.hosts {
        let _ = writeln!(text, "  - {{ host: h{n}.contoso.com, farm: plain }}");
    }
    for n in 0..scale.farms {
        let _ = writeln!(text, "  - {{ host: f{n}.contoso.com, farm: f{n} }}");
    }
    text
}

/// The one server, under as many addresses as there shall be servers.
fn addresses(server: &Server, scale: Scale) -> impl Iterator<Item = SocketAddr> {
    let port = server.address.port();
    (0..scale.servers).map(move |n| SocketAddr::new(loopback(n).parse().unwrap(), port))
}

/// The server answers at all of these.
fn loopback(n: usize) -> String {
    format!("127.0.{}.{}", 16 + n / 250, 1 + n % 250)
}

fn nginx(dir: &Path, rsa: SocketAddr, ecdsa: SocketAddr, server: &Server, scale: Scale) -> String {
    let (path, files) = (dir.display(), server.dir.display());
    let block = |address: SocketAddr, name: &str| {
        format!(
            "server {{ listen {address} ssl http2 backlog=4096; server_name {HOST} {HOST_H2};
             ssl_certificate {files}/{name}.pem; ssl_certificate_key {files}/{name}.key;
             location / {{ proxy_pass https://farm; }} }}\n"
        )
    };
    format!(
        "daemon off; master_process on; worker_processes {workers}; worker_rlimit_nofile 20000;
pid {path}/pid; error_log {path}/error.log crit;
events {{ worker_connections 19000; }}
http {{
  log_format main '$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent \
\"$http_referer\" \"$http_user_agent\" $host $upstream_addr $request_time $upstream_response_time';
  access_log {path}/access.log main;
  client_body_temp_path {path}/b; proxy_temp_path {path}/p; fastcgi_temp_path {path}/f;
  uwsgi_temp_path {path}/u; scgi_temp_path {path}/s;
  keepalive_requests 100000000; keepalive_timeout 120s; http2_max_concurrent_streams 128;
  ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache shared:a:10m; ssl_session_tickets on;
  client_max_body_size 0; proxy_request_buffering off; proxy_buffering off;
  proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $host;
  proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto https;
  proxy_ssl_server_name on; proxy_ssl_name {SERVER}; proxy_ssl_verify on;
  proxy_ssl_trusted_certificate {files}/internal-ca.pem; proxy_ssl_protocols TLSv1.2 TLSv1.3;
  proxy_read_timeout 1800s;
  upstream farm {{ {servers} keepalive {kept}; keepalive_requests 100000000; keepalive_timeout 60s; }}
  {one}{two}
}}\n",
        workers = scale.workers,
        servers = addresses(server, scale).map(|at| format!("server {at};")).collect::<String>(),
        kept = 256.max(4 * scale.servers),
        one = block(rsa, "public"),
        two = block(ecdsa, "public-ecdsa"),
    )
}

fn haproxy(rsa: SocketAddr, ecdsa: SocketAddr, server: &Server, scale: Scale) -> String {
    let files = server.dir.display();
    format!(
        "global
  nbthread {workers}
  maxconn 9500
  log stdout format raw local0
  ssl-default-bind-options ssl-min-ver TLSv1.2
  ssl-default-server-options ssl-min-ver TLSv1.2
  tune.ssl.default-dh-param 2048
defaults
  mode http
  log global
  option httplog
  option forwardfor
  http-reuse always
  timeout connect 5s
  timeout client 1800s
  timeout server 1800s
  timeout http-keep-alive 120s
  timeout http-request 15s
frontend public
  bind {rsa} ssl crt {files}/public.both alpn h2,http/1.1
  bind {ecdsa} ssl crt {files}/public-ecdsa.both alpn h2,http/1.1
  http-request set-header X-Forwarded-Proto https
  default_backend farm
backend farm
  default-server ssl verify required ca-file {files}/internal-ca.pem verifyhost {SERVER} sni str({SERVER}) pool-max-conn 256 pool-purge-delay 60s
{servers}",
        workers = scale.workers,
        servers = addresses(server, scale)
            .map(|at| format!("  server s{at} {at}\n"))
            .collect::<String>(),
    )
}

/// nginx with 100 bytes, 1 MiB and 100 MiB, uploads, and an address that never answers.
pub struct Server {
    pub address: SocketAddr,
    /// Certificates, for everybody.
    pub dir: PathBuf,
    /// Requests that wait for an answer that never comes.
    held: Arc<Mutex<Vec<TcpStream>>>,
    _process: Process,
}

impl Server {
    pub fn start(dir: &Path) -> Self {
        for name in ["public", "public-ecdsa"] {
            let read =
                |end: &str| std::fs::read_to_string(dir.join(format!("{name}.{end}"))).unwrap();
            std::fs::write(dir.join(format!("{name}.both")), read("pem") + &read("key")).unwrap();
        }
        let (held, holder) = hold();
        let port = free("0.0.0.0").port();
        let address = SocketAddr::from(([127, 0, 16, 1], port));
        let files = dir.join("files");
        std::fs::create_dir_all(&files).unwrap();
        for (name, size) in [("1m", 1 << 20), ("100m", 100 << 20)] {
            std::fs::write(files.join(name), vec![b'x'; size]).unwrap();
        }
        let (path, files) = (dir.display(), files.display());
        let body = "x".repeat(100);
        let config = format!(
            "daemon off; worker_processes 1; worker_rlimit_nofile 20000;
pid {path}/server.pid; error_log {path}/server.log crit;
events {{ worker_connections 19000; }}
http {{
  access_log off; sendfile on; tcp_nopush on;
  client_body_temp_path {path}/b; proxy_temp_path {path}/p; fastcgi_temp_path {path}/f;
  uwsgi_temp_path {path}/u; scgi_temp_path {path}/s;
  keepalive_requests 100000000; keepalive_timeout 300s; client_max_body_size 0;
  ssl_protocols TLSv1.2 TLSv1.3;
  server {{ listen 0.0.0.0:{port} ssl backlog=4096;
    ssl_certificate {path}/internal.pem; ssl_certificate_key {path}/internal.key;
    location / {{ return 200 '{body}'; }}
    location /files/ {{ alias {files}/; }}
    location /held {{ proxy_pass http://{holder}; proxy_read_timeout 1h; }} }}
}}\n"
        );
        let file = dir.join("server.conf");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new("/usr/sbin/nginx");
        command.arg("-c").arg(&file).arg("-e").arg(dir.join("server.log"));
        let process = Process::start(&mut command, &dir.join("server.out"));
        until("the server", Duration::from_secs(15), || TcpStream::connect(address).ok());
        Self { address, dir: dir.to_owned(), held, _process: process }
    }

    /// How many requests wait.
    pub fn held(&self) -> usize {
        self.held.lock().unwrap().len()
    }

    /// Ends those that wait.
    pub fn release(&self) {
        self.held.lock().unwrap().clear();
    }
}

/// Accepts, and says nothing until it is told to end.
fn hold() -> (Arc<Mutex<Vec<TcpStream>>>, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let held = Arc::<Mutex<Vec<TcpStream>>>::default();
    let all = held.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            all.lock().unwrap().push(stream);
        }
    });
    (held, address)
}
