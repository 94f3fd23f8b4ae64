//! What passed: one record for each request that a simulated server took.

use std::{fmt, time::Duration};

use jiff::Timestamp;

use crate::lab::{
    config::{LYNC_PROBE, OWAS_PROBE},
    estate::SiteKind,
    exchange::HEALTH_PAGE,
};

/// A request and what became of it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When the request had arrived.
    pub at: Timestamp,
    /// Short name of the server.
    pub server: &'static str,
    /// The web site that took it.
    pub site: SiteKind,
    /// Whether it came by TLS.
    pub tls: bool,
    /// Method, as sent.
    pub method: String,
    /// `Host`, as sent; empty when there was none.
    pub host: String,
    /// Request target, as sent.
    pub target: String,
    /// What the server did.
    pub outcome: Outcome,
    /// From the end of the request header to the end of the answer.
    pub took: Duration,
    /// The TCP connection, counted from 1 over the whole lab.
    pub connection: u64,
    /// `X-Forwarded-For`, as sent; `None` means that it did not come through a proxy.
    pub forwarded_for: Option<String>,
}

/// What a simulated server did with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It answered with this status.
    Status(u16),
    /// It holds the request; another record follows when it ends.
    Held,
    /// It closed the connection on purpose, without an answer.
    Closed,
    /// The client left before the answer was complete.
    ClientLeft,
}

impl Seen {
    /// Whether this looks like a health check: asks for autodiscover, `/hosting/discovery`
    /// or a `healthcheck.htm` without having come through a proxy.
    pub fn is_probe(&self) -> bool {
        let path = self.target.split('?').next().unwrap_or(&self.target);
        self.forwarded_for.is_none()
            && self.method == "GET"
            && ([LYNC_PROBE, OWAS_PROBE].iter().any(|probe| path.eq_ignore_ascii_case(probe))
                || path.to_ascii_lowercase().ends_with(HEALTH_PAGE))
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(
            f,
            "{} {:<6} {:<8} {:<5} {:<4} {} {} ",
            self.at.strftime("%H:%M:%S%.3f"),
            self.server,
            self.site,
            scheme,
            self.method.escape_debug().to_string(),
            if self.host.is_empty() { "-".into() } else { self.host.escape_debug().to_string() },
            self.target.escape_debug(),
        )?;
        match self.outcome {
            Outcome::Status(status) => write!(f, "{status} {:.1?}", self.took),
            Outcome::Held => f.write_str("held"),
            Outcome::Closed => f.write_str("closed without an answer"),
            Outcome::ClientLeft => write!(f, "client left after {:.1?}", self.took),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(target: &str) -> Seen {
        Seen {
            at: "2026-11-05T12:01:02.5Z".parse().unwrap(),
            server: "fe01",
            site: SiteKind::External,
            tls: true,
            method: "GET".into(),
            host: "meet.contoso.com".into(),
            target: target.into(),
            outcome: Outcome::Status(200),
            took: Duration::from_millis(2),
            connection: 1,
            forwarded_for: None,
        }
    }

    #[test]
    fn one_line_says_it_all() {
        assert_eq!(
            seen("/meet/alice/X").to_string(),
            "12:01:02.500 fe01   external https GET  meet.contoso.com /meet/alice/X 200 2.0ms"
        );
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert!(!seen("/\u{1b}[2J").to_string().contains('\u{1b}'));
    }

    #[test]
    fn a_probe_is_one_that_no_proxy_forwarded() {
        let mut probe = seen("/Autodiscover/AutodiscoverService.svc/root");
        assert!(probe.is_probe() && seen("/OWA/healthcheck.htm").is_probe());
        probe.forwarded_for = Some("192.0.2.7".into());
        assert!(!probe.is_probe());
        assert!(!seen("/meet/").is_probe());
    }
}
