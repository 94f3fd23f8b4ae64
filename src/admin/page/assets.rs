//! Style sheet and script: files of their own, named after what is in them.

use std::sync::LazyLock;

use boring::sha::sha256;
use http::{HeaderValue, StatusCode, header};

use crate::admin::answer::{Answer, answer};

/// A file of the page.
pub(super) struct Asset {
    /// Its path; another content has another one, so browsers may keep it.
    pub(super) path: String,
    kind: &'static str,
    body: &'static str,
}

impl Asset {
    fn new(ending: &str, kind: &'static str, body: &'static str) -> Self {
        let digest = sha256(body.as_bytes());
        let digest: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        Self { path: format!("/dashboard-{digest}.{ending}"), kind, body }
    }

    pub(super) fn answer(&self) -> Answer {
        let mut answer = answer(StatusCode::OK, self.kind, self.body.into());
        let keep = HeaderValue::from_static("public, max-age=31536000, immutable");
        answer.headers_mut().insert(header::CACHE_CONTROL, keep);
        answer
    }
}

pub(super) static STYLE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("css", "text/css; charset=utf-8", include_str!("dashboard.css")));

pub(super) static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("js", "text/javascript; charset=utf-8", include_str!("dashboard.js"))
});

/// The small picture in the browser's tab.
pub(super) static ICON: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("svg", "image/svg+xml", include_str!("icon.svg")));
