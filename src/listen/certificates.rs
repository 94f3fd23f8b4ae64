//! Certificates by server name.

use std::{collections::HashMap, sync::Arc};

use crate::site::{Certificate, Site};

/// Certificates for one name, by kind of key.
#[derive(Clone, Debug, Default)]
struct Kinds {
    rsa: Option<Arc<Certificate>>,
    ecdsa: Option<Arc<Certificate>>,
}

/// Finds the certificate for a server name; cost does not grow with their number.
#[derive(Debug, Default)]
pub struct Certificates {
    exact: HashMap<String, Kinds>,
    /// Keyed by what follows `*.`.
    wildcard: HashMap<String, Kinds>,
    default: Kinds,
}

impl Certificates {
    /// Indexes the site's certificates; where several cover a name, the first one counts.
    pub fn new(site: &Site) -> Self {
        let mut all = Self::default();
        for certificate in &site.certificates {
            for name in &certificate.names {
                match name.strip_prefix("*.") {
                    Some(parent) => all.wildcard.entry(parent.to_owned()).or_default(),
                    None => all.exact.entry(name.clone()).or_default(),
                }
                .add(certificate);
            }
        }
        if let Some(default) = site.certificates.get(site.default_certificate) {
            all.default.add(default);
            // Its twin with the other kind of key, if there is one for the same names.
            for twin in site.certificates.iter().filter(|c| c.names == default.names) {
                all.default.add(twin);
            }
        }
        all
    }

    /// The certificate to serve: by name, then by wildcard, else the default. A client that
    /// accepts ECDSA gets it where there is one, because it costs the server a fraction.
    pub fn find(&self, sni: Option<&str>, accepts_ecdsa: bool) -> Option<Arc<Certificate>> {
        sni.and_then(|name| {
            let parent = || name.split_once('.').and_then(|(_, p)| self.wildcard.get(p));
            self.exact.get(name).or_else(parent)
        })
        .unwrap_or(&self.default)
        .choose(accepts_ecdsa)
    }
}

impl Kinds {
    fn add(&mut self, certificate: &Arc<Certificate>) {
        let place = if certificate.ecdsa { &mut self.ecdsa } else { &mut self.rsa };
        place.get_or_insert_with(|| certificate.clone());
    }

    fn choose(&self, accepts_ecdsa: bool) -> Option<Arc<Certificate>> {
        let first = if accepts_ecdsa { &self.ecdsa } else { &self.rsa };
        first.as_ref().or(self.rsa.as_ref()).or(self.ecdsa.as_ref()).cloned()
    }
}
