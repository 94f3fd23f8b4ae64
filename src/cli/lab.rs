//! `frontgate lab`: a deployment to try Frontgate on.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
    sync::broadcast::{Receiver, error::RecvError},
};

use super::lab_server;
use crate::lab::{self, Manifest, Options, Ports, Seen};

/// Start simulated Lync servers, make certificates and a configuration, run Frontgate on it.
#[derive(Clone, Debug, clap::Args)]
pub struct LabArgs {
    /// Keep the files in DIR; otherwise they are temporary
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// SIP domain; may be given several times
    #[arg(long = "domain", value_name = "NAME", default_value = "contoso.com")]
    pub domains: Vec<String>,
    /// Where Frontgate, or the servers of --server, listen; 0.0.0.0 lets others in, and everybody knows the passwords
    #[arg(long, value_name = "ADDRESS", env = "FRONTGATE_LAB_ADDRESS",
          default_value_t = Ipv4Addr::LOCALHOST)]
    pub address: Ipv4Addr,
    /// Frontgate's HTTPS port
    #[arg(long, value_name = "PORT", default_value_t = 8443)]
    pub https: u16,
    /// Frontgate's HTTP port
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    pub http: u16,
    /// Frontgate's admin port on 127.0.0.1
    #[arg(long, value_name = "PORT", default_value_t = 9180)]
    pub admin: u16,
    /// HTTPS port of the Front Ends' external site, 0 = the kernel chooses
    #[arg(long, value_name = "PORT", default_value_t = 4443)]
    pub front_end_https: u16,
    /// HTTP port of the Front Ends' external site, 0 = the kernel chooses
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    pub front_end_http: u16,
    /// HTTPS port of the internal site and of Office Web Apps [default: 443 where allowed,
    /// otherwise 10443]
    #[arg(long, value_name = "PORT")]
    pub internal_https: Option<u16>,
    /// HTTP port of the internal site and of Office Web Apps [default: 80 where allowed,
    /// otherwise 10080]
    #[arg(long, value_name = "PORT")]
    pub internal_http: Option<u16>,
    /// Choose every port freely; lab.json in the directory names them
    #[arg(long, conflicts_with_all = ["https", "http", "admin", "front_end_https",
          "front_end_http", "internal_https", "internal_http"])]
    pub free_ports: bool,
    /// How long the event channel is held when a request names no timeout, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 180)]
    pub poll: u64,
    /// Open a port on 127.0.0.1 that stops and starts servers: POST /stop/fe01, /start/fe01; and
    /// protocols of Exchange: /out/exch01/owa, /in/exch01/owa
    #[arg(long, value_name = "PORT", num_args = 0..=1, require_equals = true,
          default_missing_value = "0")]
    pub control: Option<u16>,
    /// Run the simulated servers only
    #[arg(long)]
    pub servers_only: bool,
    /// Only write certificates, users and a token into --dir, for servers that run apart; what is
    /// there already stays
    #[arg(long, requires = "dir", conflicts_with_all = ["server", "servers_only"])]
    pub prepare: bool,
    /// Run only this simulated server, at --address, with what --prepare wrote into --dir; may be
    /// given several times
    #[arg(long, value_name = "NAME", requires = "dir", conflicts_with = "servers_only")]
    pub server: Vec<String>,
    /// Also show the health checks
    #[arg(long)]
    pub show_probes: bool,
}

/// Runs the lab until `frontgate`, which gets the path of the configuration, returns; with
/// `--servers-only` until SIGINT or SIGTERM. Returns the exit code: that of `frontgate`, or 1
/// when the lab cannot start.
pub fn run(args: LabArgs, frontgate: impl FnOnce(&Path) -> i32) -> i32 {
    match try_run(&args, frontgate) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("frontgate: {error:#}");
            1
        }
    }
}

/// The simulated servers have threads of their own: Frontgate brings its runtime along, and
/// neither is to starve the other.
fn try_run(args: &LabArgs, frontgate: impl FnOnce(&Path) -> i32) -> Result<i32> {
    if args.prepare {
        return lab_server::prepare(args.dir.as_deref(), &args.domains).map(|()| 0);
    }
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("lab")
        .enable_all()
        .build()
        .context("cannot start the lab's threads")?;
    if !args.server.is_empty() {
        lab_server::serve(&runtime, &args.options(), &args.server, args.show_probes)?;
        return Ok(0);
    }
    let lab = runtime.block_on(lab::start(args.options()))?;
    let text = introduction(lab.manifest(), args.servers_only);
    // A closed standard output is no reason to stop.
    let _ = io::stdout().write_all(text.as_bytes());
    runtime.spawn(show(lab.seen(), args.show_probes));
    let code = if args.servers_only {
        runtime.block_on(interrupted()).map(|()| 0)
    } else {
        Ok(frontgate(&lab.config()))
    };
    runtime.block_on(lab.shutdown());
    code
}

impl LabArgs {
    fn options(&self) -> Options {
        let mut options = if self.free_ports {
            Options::free_ports()
        } else {
            let internal = Ports {
                https: self.internal_https.unwrap_or(10443),
                http: self.internal_http.unwrap_or(10080),
            };
            let chosen = self.internal_https.is_some() || self.internal_http.is_some();
            Options {
                listen: Ports { https: self.https, http: self.http },
                admin: self.admin,
                front_end: Ports { https: self.front_end_https, http: self.front_end_http },
                internal: chosen.then_some(internal),
                ..Options::default()
            }
        };
        options.address = self.address;
        options.dir = self.dir.clone();
        options.domains = self.domains.clone();
        options.poll = Duration::from_secs(self.poll);
        options.control = self.control;
        options.servers_only = self.servers_only;
        // At every address, Frontgate leaves none for servers with the same port.
        let here = !self.servers_only && self.server.is_empty();
        let taken = options.front_end.http != 0 && options.front_end.http == options.listen.http;
        if self.address.is_unspecified() && here && taken {
            options.front_end.http += 10_000;
        }
        options
    }
}

/// What exists, what is published, and commands to try.
fn introduction(manifest: &Manifest, servers_only: bool) -> String {
    let mut out = String::from("Simulated servers\n");
    for server in &manifest.servers {
        let _ = write!(
            out,
            "  {:<7} {:<10} {}, {}",
            server.name, server.farm, server.external.https, server.external.http
        );
        let _ = match &server.internal {
            Some(internal) => {
                writeln!(out, "   internal site: {}, {}", internal.https, internal.http)
            }
            None => writeln!(out),
        };
    }
    let listen = &manifest.frontgate;
    let _ = writeln!(
        out,
        "\n{} {} (https), {} (http), {} (admin)",
        if servers_only { "The configuration lets Frontgate listen on" } else { "Frontgate" },
        listen.https,
        listen.http,
        listen.admin
    );
    if let Some(control) = manifest.control {
        let _ = writeln!(
            out,
            "Control http://{control}/  (POST /stop/fe01 /start/fe01 /out/exch01/owa /in/exch01/owa)"
        );
    }
    let _ = writeln!(out, "Published {}", manifest.external_names.join(" "));
    let _ = writeln!(out, "Files {}", manifest.dir.display());
    if servers_only {
        let config = manifest.dir.join(&manifest.files.config);
        let _ = writeln!(out, "Run it: frontgate run --config {}", config.display());
    }
    out += "\nTry\n";
    for command in commands(manifest) {
        let _ = writeln!(out, "  {command}");
    }
    let _ = writeln!(
        out,
        "Password of alice, bob and whoever has none in {}: {}   (bob lives in pool B)\n\n\
         Requests (time in UTC, server, site, scheme, method, host, path, status):",
        manifest.dir.join(&manifest.files.users).display(),
        manifest.password
    );
    out
}

fn commands(manifest: &Manifest) -> Vec<String> {
    let domain = manifest.domains.first().map_or("contoso.com", String::as_str);
    let ca = manifest.dir.join(&manifest.files.public_ca);
    let https = |options: &str, name: &str, path: &str| {
        let port = manifest.frontgate.https.port();
        format!(
            "curl --cacert '{}' --resolve {name}.{domain}:{port}:127.0.0.1 {options}\
             'https://{name}.{domain}:{port}{path}'",
            ca.display()
        )
    };
    let port = manifest.frontgate.http.port();
    vec![
        https("", "meet", "/meet/alice/X7K2"),
        https("", "dialin", "/"),
        https("", "lyncweb", "/scheduler/"),
        https("-H 'Accept: application/json' ", "lyncdiscover", "/"),
        format!(
            "curl --resolve lyncdiscover.{domain}:{port}:127.0.0.1 \
             'http://lyncdiscover.{domain}:{port}/?sipuri=alice@{domain}'"
        ),
        https(
            &format!(
                "-d 'grant_type=password&username=alice@{domain}&password={}' ",
                manifest.password
            ),
            "lyncweb",
            "/WebTicket/oauthtoken",
        ),
        https(&format!("--ntlm -u 'alice:{}' ", manifest.password), "mail", "/EWS/Exchange.asmx"),
        https("", "mail", "/owa/"),
        https("", "wac", "/hosting/discovery"),
        https("", "lyncweb2", "/lab/echo"),
    ]
}

/// Prints requests as they pass.
pub(super) async fn show(mut seen: Receiver<Seen>, probes: bool) {
    loop {
        let line = match seen.recv().await {
            Ok(seen) if !probes && seen.is_probe() => continue,
            Ok(seen) => seen.to_string(),
            Err(RecvError::Lagged(missed)) => format!("({missed} requests not shown)"),
            Err(RecvError::Closed) => return,
        };
        if writeln!(io::stdout(), "{line}").is_err() {
            return;
        }
    }
}

pub(super) async fn interrupted() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        done = tokio::signal::ctrl_c() => done?,
        _ = terminate.recv() => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        lab: LabArgs,
    }

    fn options(line: &str) -> Options {
        Cli::try_parse_from(line.split(' ')).unwrap().lab.options()
    }

    #[test]
    fn the_command_line_without_options_is_the_default_lab() {
        assert_eq!(format!("{:?}", options("lab")), format!("{:?}", Options::default()));
    }

    #[test]
    fn ports_and_domains_can_be_chosen() {
        let options = options(
            "lab --https 9443 --front-end-https 0 --internal-https 20443 --domain a.nl \
             --domain b.nl --control --poll 5",
        );
        assert_eq!(options.listen, Ports { https: 9443, http: 8080 });
        assert_eq!(options.front_end, Ports { https: 0, http: 8080 });
        assert_eq!(options.internal, Some(Ports { https: 20443, http: 10080 }));
        assert_eq!(options.domains, ["a.nl", "b.nl"]);
        assert_eq!(options.control, Some(0));
        assert_eq!(options.poll, Duration::from_secs(5));
        assert!(Cli::try_parse_from(["lab", "--free-ports", "--https", "1"]).is_err());
    }

    /// As in the container image.
    #[test]
    fn frontgate_at_every_address_leaves_ports_to_the_servers() {
        let front_end = |line: &str| options(line).front_end.http;
        assert_eq!(front_end("lab --address 0.0.0.0"), 18080);
        assert_eq!(front_end("lab --address 0.0.0.0 --http 80"), 8080);
        assert_eq!(front_end("lab --address 0.0.0.0 --server fe01 --dir x"), 8080);
        assert_eq!(front_end("lab --address 127.0.0.9"), 8080);
    }

    #[test]
    fn the_lab_runs_as_long_as_frontgate_and_introduces_itself() {
        let args = Cli::try_parse_from(["lab", "--free-ports", "--control"]).unwrap().lab;
        let mut dir = PathBuf::new();
        let code = run(args, |config| {
            dir = config.parent().unwrap().into();
            let manifest = std::fs::read_to_string(dir.join("lab.json")).unwrap();
            let manifest: Manifest = serde_json::from_str(&manifest).unwrap();
            std::net::TcpStream::connect(manifest.servers[0].external.https).unwrap();
            let text = introduction(&manifest, false);
            for name in &manifest.external_names {
                assert!(text.contains(name.as_str()), "{name} is missing in {text}");
            }
            let port = manifest.frontgate.https.port();
            let resolve = format!("--resolve meet.contoso.com:{port}:127.0.0.1");
            assert!(text.contains(&resolve), "{text}");
            78
        });
        assert_eq!(code, 78);
        assert!(!dir.exists(), "{} is still there", dir.display());
    }

    #[test]
    fn a_lab_that_cannot_start_is_1() {
        let args = Cli::try_parse_from(["lab", "--free-ports", "--domain", "contoso"]).unwrap().lab;
        assert_eq!(run(args, |_| panic!("Frontgate was started")), 1);
    }
}
