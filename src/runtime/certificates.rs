//! Saying in time that certificates expire.

use std::{
    sync::{Arc, Mutex},
    time::SystemTime,
};

use crate::{
    events::{EVERY, Events, Expiry, Served},
    forward::Current,
    lock::lock,
    site::Site,
};

/// Says in time that certificates expire.
#[derive(Debug, Default)]
pub(super) struct Certificates(Mutex<Expiry>);

impl Certificates {
    /// Looks at the certificates of a site.
    pub(super) fn look(&self, site: &Site, events: &Events) {
        let served = site.certificates.iter().filter_map(|certificate| {
            Some(Served {
                fingerprint: certificate.fingerprint(),
                names: certificate.names.clone(),
                place: certificate.place.to_string(),
                not_after: certificate.not_after()?,
            })
        });
        let served: Vec<_> = served.collect();
        let mut expiry = lock(&self.0);
        for news in expiry.look(&served, SystemTime::now()) {
            events.tell(news);
        }
    }
}

/// Looks at them every hour; never returns.
pub(super) async fn keep_looking(
    certificates: Arc<Certificates>,
    current: Arc<Current>,
    events: Events,
) {
    let mut ticks = tokio::time::interval(EVERY);
    loop {
        ticks.tick().await;
        let site = current.load().site.clone();
        certificates.look(&site, &events);
    }
}
