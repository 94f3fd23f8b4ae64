//! What is published, by whom it is served, and with what: `GET /api/v1/site`, `farms`, `pins`
//! and `certificates`. Keys are only ever added.

mod certificates;
mod farms;
mod pins;
mod site;

pub use certificates::{CertificateRow, Certificates};
pub use farms::{FarmRow, Farms};
pub use pins::{PinnedServer, PinnedSource, Pins};
pub use site::{ListenerRow, ProxiedRow, RuleRow, Site};
