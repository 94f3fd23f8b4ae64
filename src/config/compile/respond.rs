//! Answers of Frontgate's own: status and page.

use std::io::ErrorKind;

use bytes::Bytes;

use crate::{
    config::{
        code,
        diagnostic::Findings,
        files::{Files, reason},
        model::publish,
        read::At,
    },
    site::{Page, Respond},
};

/// Largest page: it stays in memory, and every client gets it whole.
const MAX_PAGE: usize = 1 << 20;

/// The answer; `None` after a finding.
pub(super) fn compile(
    written: &At<publish::Respond>,
    files: &mut Files,
    findings: &mut Findings,
) -> Option<Respond> {
    let status = u16::try_from(written.status.0).unwrap_or(200);
    if (300..400).contains(&status) || matches!(status, 204 | 205) {
        let message = format!("{status} is not the status of a page");
        findings.add(code::STATUS, &written.status.mark, message).help(
            "redirects stand under `redirect`; a page has 200, 404, 503 and the like".to_string(),
        );
        return None;
    }
    let Some(file) = &written.file else {
        return (!written.broken).then_some(Respond { status, page: None });
    };
    let read = files.read(&file.path);
    let (fault, help) = match read {
        Ok(bytes) if bytes.len() <= MAX_PAGE => {
            let body = Bytes::copy_from_slice(&bytes);
            let extension = file.path.extension().and_then(|e| e.to_str()).unwrap_or_default();
            let page = Page { body, content_type: content_type(extension) };
            return Some(Respond { status, page: Some(page) });
        }
        Err(error) if error.kind() != ErrorKind::FileTooLarge => {
            (reason(&error), "the user that Frontgate runs as must be able to read the file")
        }
        _ => ("it is larger than 1 MiB".to_string(), "a page stays in memory; make it smaller"),
    };
    let message = format!("cannot use `{}`: {fault}", file.written);
    findings.add(code::PAGE, &file.mark, message).help(help.to_string());
    None
}

fn content_type(extension: &str) -> &'static str {
    match extension.to_ascii_lowercase().as_str() {
        "css" => "text/css; charset=utf-8",
        "gif" => "image/gif",
        "htm" | "html" => "text/html; charset=utf-8",
        "ico" => "image/vnd.microsoft.icon",
        "jpeg" | "jpg" => "image/jpeg",
        "js" => "text/javascript; charset=utf-8",
        "json" => "application/json",
        "png" => "image/png",
        "svg" => "image/svg+xml",
        "txt" => "text/plain; charset=utf-8",
        "xml" => "text/xml; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_says_the_type() {
        assert_eq!(content_type("HTML"), "text/html; charset=utf-8");
        assert_eq!(content_type("svg"), "image/svg+xml");
        assert_eq!(content_type(""), "application/octet-stream");
    }
}
