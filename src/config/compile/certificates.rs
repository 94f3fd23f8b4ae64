//! Certificates: loaded, and one of them the default.

use std::sync::Arc;

use crate::{
    config::{
        certificate, code, compile::collision, diagnostic::Findings, files::Files, model::Config,
    },
    site::Certificate,
};

/// The certificates and the index of the default one.
pub(super) fn compile(
    config: &Config,
    files: &mut Files,
    findings: &mut Findings,
) -> (Vec<Arc<Certificate>>, usize) {
    let mut certificates = Vec::new();
    let mut default: Option<(usize, &crate::config::source::Mark)> = None;
    for entry in config.certificates.iter().flat_map(|list| &list.items) {
        if entry.default.value {
            match default {
                Some((_, first)) => {
                    let message = "another certificate is the default already".to_string();
                    let mark = &entry.default.mark;
                    let help = "keep `default: true` at one of them";
                    collision(code::CERTIFICATE_DEFAULT, first, mark, message, help, findings);
                }
                None => default = Some((certificates.len(), &entry.default.mark)),
            }
        }
        if let Some(certificate) = certificate::load(entry, files, findings) {
            certificates.push(Arc::new(certificate));
        }
    }
    (certificates, default.map_or(0, |(index, _)| index))
}
