//! The simulated estate: which servers exist, in which pools, under which names. Nothing here
//! opens a socket.

use std::{fmt, net::Ipv4Addr};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use crate::lab::ntlm;

/// The web site of a Windows server that a socket belongs to. The port decides it: that is why a
/// proxy that sends 443 to 443 instead of 4443 shows internal names to the internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SiteKind {
    /// The external web site of a Front End, 4443 and 8080.
    External,
    /// The internal web site of a Front End, 443 and 80.
    Internal,
    /// The one web site of an Office Web Apps server.
    OfficeWebApps,
    /// The front-end web site of an Exchange server.
    Exchange,
}

impl SiteKind {
    /// The sites that are meant for the internet.
    pub(super) const PUBLISHED: [Self; 3] = [Self::External, Self::OfficeWebApps, Self::Exchange];
}

impl fmt::Display for SiteKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::External => "external",
            Self::Internal => "internal",
            Self::OfficeWebApps => "owas",
            Self::Exchange => "exchange",
        })
    }
}

/// A Front End pool.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    /// Name of its farm in the configuration the lab writes.
    pub(super) farm: &'static str,
    /// Pool FQDN, internal.
    pub(super) fqdn: String,
    /// Internal web services FQDN.
    pub(super) internal: String,
    /// External web services FQDN.
    pub(super) external: String,
}

/// A simulated server.
#[derive(Clone, Debug)]
pub(super) struct Server {
    /// Short name, as in the configuration and in `lab.json`.
    pub(super) name: &'static str,
    /// Its own FQDN, internal; what `X-MS-Server-Fqdn` says.
    pub(super) fqdn: String,
    /// Where it listens.
    pub(super) ip: Ipv4Addr,
    pub(super) role: Role,
}

/// What a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A Front End of the pool with this index in [`Estate::pools`].
    FrontEnd(usize),
    OfficeWebApps,
    Exchange,
}

impl Server {
    /// Index of its pool in [`Estate::pools`], for a Front End.
    pub(super) fn pool(&self) -> Option<usize> {
        match self.role {
            Role::FrontEnd(pool) => Some(pool),
            Role::OfficeWebApps | Role::Exchange => None,
        }
    }
}

/// Everything that exists.
#[derive(Clone, Debug)]
pub(super) struct Estate {
    /// SIP domains; the first one also carries the pools' names, never empty.
    pub(super) domains: Vec<String>,
    /// Front End pools.
    pub(super) pools: [Pool; 2],
    /// Every simulated server.
    pub(super) servers: Vec<Server>,
    /// External name of the Office Web Apps farm.
    pub(super) wac: String,
    /// External name of Exchange.
    pub(super) mail: String,
    /// DNS name of the Active Directory domain.
    pub(super) directory: String,
}

impl Estate {
    /// The estate for these SIP domains.
    ///
    /// # Errors
    /// When there is no domain, or one is not a DNS name of two labels or more.
    pub(super) fn new(domains: &[String]) -> Result<Self> {
        let domains = domains.iter().map(|name| domain(name)).collect::<Result<Vec<_>>>()?;
        let Some(first) = domains.first() else { bail!("at least one SIP domain is needed") };
        // Internal names end in .local, so that one look at an answer tells which site made it.
        let local = match first.rsplit_once('.') {
            Some((stem, _)) => format!("{stem}.local"),
            None => format!("{first}.local"),
        };
        let pool = |farm, letter, external: &str| Pool {
            farm,
            fqdn: format!("pool-{letter}.{local}"),
            internal: format!("webint-{letter}.{local}"),
            external: format!("{external}.{first}"),
        };
        let server = |name, last, role| Server {
            name,
            fqdn: format!("{name}.{local}"),
            ip: Ipv4Addr::new(127, 0, 0, last),
            role,
        };
        Ok(Self {
            pools: [pool("lyncweb-a", 'a', "lyncweb"), pool("lyncweb-b", 'b', "lyncweb2")],
            servers: vec![
                server("fe01", 2, Role::FrontEnd(0)),
                server("fe02", 3, Role::FrontEnd(0)),
                server("fe03", 4, Role::FrontEnd(1)),
                server("fe04", 8, Role::FrontEnd(1)),
                server("owas01", 5, Role::OfficeWebApps),
                server("exch01", 6, Role::Exchange),
                server("exch02", 7, Role::Exchange),
            ],
            wac: format!("wac.{first}"),
            mail: format!("mail.{first}"),
            directory: local,
            domains,
        })
    }

    /// The first SIP domain.
    pub(super) fn first_domain(&self) -> &str {
        self.domains.first().map_or("", String::as_str)
    }

    /// Every name that clients on the internet use, in the order of the certificate.
    pub(super) fn external_names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.pools.iter().map(|pool| pool.external.clone()).collect();
        names.push(format!("dialin.{}", self.first_domain()));
        for domain in &self.domains {
            names.push(format!("meet.{domain}"));
            names.push(format!("lyncdiscover.{domain}"));
            names.push(format!("autodiscover.{domain}"));
        }
        names.push(self.wac.clone());
        names.push(self.mail.clone());
        names
    }

    /// Under which names `server` introduces itself to those who sign in.
    pub(super) fn windows_names(&self, server: &Server) -> ntlm::Names {
        let label = self.first_domain().split('.').next().unwrap_or_default();
        ntlm::Names {
            // A NetBIOS name has 15 characters at most; a domain's are ASCII.
            netbios_domain: label.get(..15).unwrap_or(label).to_ascii_uppercase(),
            netbios_computer: server.name.to_ascii_uppercase(),
            dns_domain: self.directory.clone(),
            dns_computer: server.fqdn.clone(),
        }
    }

    /// The names in the certificate of `server`, its own FQDN first: for a Front End what
    /// Request-CsCertificate fills in.
    pub(super) fn certificate_names(&self, server: &Server) -> Vec<String> {
        let mut names = vec![server.fqdn.clone()];
        let Some(pool) = server.pool().and_then(|index| self.pools.get(index)) else {
            let exchange = server.role == Role::Exchange;
            names.push(if exchange { self.mail.clone() } else { self.wac.clone() });
            return names;
        };
        names.extend([pool.fqdn.clone(), pool.internal.clone(), pool.external.clone()]);
        for prefix in ["dialin", "admin"] {
            names.push(format!("{prefix}.{}", self.first_domain()));
        }
        for domain in &self.domains {
            for prefix in ["meet", "lyncdiscover", "lyncdiscoverinternal"] {
                names.push(format!("{prefix}.{domain}"));
            }
        }
        names
    }

    /// Index of the pool that homes `user` (`sip:` and the domain do not matter): `bob` lives in
    /// pool B, everybody else in pool A.
    pub(super) fn home(&self, user: &str) -> usize {
        let user = user.strip_prefix("sip:").unwrap_or(user);
        let local_part = user.split('@').next().unwrap_or(user);
        usize::from(local_part.eq_ignore_ascii_case("bob"))
    }
}

/// `name` in lower case when it can be a SIP domain. The names go into YAML and certificates
/// unquoted, so nothing but letters, digits and hyphens may pass.
fn domain(name: &str) -> Result<String> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if name.len() > 200 || name.split('.').count() < 2 || !name.split('.').all(label) {
        bail!("{name:?} is not a SIP domain: a DNS name such as contoso.com is needed");
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estate(domains: &[&str]) -> Estate {
        Estate::new(&domains.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn external_names_cover_every_domain_and_no_internal_name() {
        let names = estate(&["contoso.com", "Fabrikam.com."]).external_names();
        for name in [
            "lyncweb.contoso.com",
            "lyncweb2.contoso.com",
            "dialin.contoso.com",
            "meet.fabrikam.com",
            "lyncdiscover.fabrikam.com",
            "autodiscover.fabrikam.com",
            "wac.contoso.com",
            "mail.contoso.com",
        ] {
            assert!(names.iter().any(|n| n == name), "{name} is missing in {names:?}");
        }
        assert!(names.iter().all(|name| !name.ends_with(".local")));
    }

    #[test]
    fn a_front_end_certificate_names_server_pool_and_web_services() {
        let estate = estate(&["contoso.com"]);
        let names = estate.certificate_names(&estate.servers[0]);
        assert_eq!(names[0], "fe01.contoso.local");
        for name in ["pool-a.contoso.local", "webint-a.contoso.local", "lyncweb.contoso.com"] {
            assert!(names.iter().any(|n| n == name), "{name} is missing in {names:?}");
        }
        assert!(!names.iter().any(|n| n == "lyncweb2.contoso.com"));
    }

    #[test]
    fn windows_knows_the_domain_by_a_short_name() {
        let estate = estate(&["a-very-long-company-name.com"]);
        let exchange = estate.servers.iter().find(|server| server.name == "exch01").unwrap();
        let names = estate.windows_names(exchange);
        assert_eq!(names.netbios_domain, "A-VERY-LONG-COM");
        assert_eq!(names.netbios_computer, "EXCH01");
        assert_eq!(names.dns_computer, "exch01.a-very-long-company-name.local");
    }

    #[test]
    fn users_have_a_home_pool() {
        let estate = estate(&["contoso.com"]);
        assert_eq!(estate.home("sip:Bob@contoso.com"), 1);
        assert_eq!(estate.home("alice@contoso.com"), 0);
        assert_eq!(estate.home("bobby@contoso.com"), 0);
    }

    #[test]
    fn odd_domains_are_refused() {
        for name in ["", "contoso", "a b.com", "x\n: y.com", "-a.com", "a..com"] {
            assert!(Estate::new(&[name.to_string()]).is_err(), "{name:?}");
        }
        assert!(Estate::new(&[]).is_err());
    }
}
