//! What a farm says of a path, as the client wrote it or as a rule rewrote it.

use crate::site::{
    Farm, Rule,
    path::{denied, listed},
};

/// Whether a farm's path may be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Published {
    Yes,
    /// By the farm's `deny_paths`.
    Denied,
    /// Plain http does not reach it, by the farm's `plain_paths`.
    OnlyHttps,
}

/// What `farm` says of one reading of a path that `rule` leads to it.
pub(super) fn published(farm: &Farm, rule: &Rule, reading: &[u8], https: bool) -> Published {
    let deny = farm.deny_paths.iter().map(|path| &**path);
    let allow = rule.allow_denied.iter().map(|path| &**path);
    let plain = &farm.plain_paths;
    if denied(reading, deny, allow) {
        Published::Denied
    } else if !https && !plain.is_empty() && !plain.iter().any(|entry| listed(reading, entry)) {
        Published::OnlyHttps
    } else {
        Published::Yes
    }
}
