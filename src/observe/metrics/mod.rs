//! Metrics: what is counted while requests run, and how it looks to Prometheus.
//!
//! A request adds to atomics that its site already points at: no lock, no lookup, no allocation.
//! What farms, pins and listeners count themselves is read when somebody asks.

mod family;
mod page;
mod process;
mod reloads;
mod traffic;

use std::sync::atomic::{AtomicU64, Ordering};

pub use self::{
    family::{Family, Kind, families},
    page::{Labels, Page},
    process::process,
    reloads::{Reload, Reloads},
    traffic::{Route, Routes, Traffic},
};
use crate::reason::{self, Reason};

/// Everything that is counted for the whole process. It outlives reloads.
#[derive(Debug)]
pub struct Metrics {
    /// Requests, by rule and farm.
    pub traffic: Traffic,
    /// Reloads of the configuration.
    pub reloads: Reloads,
    /// How often each reason ended a request, in the order of [`reason::ALL`].
    reasons: [AtomicU64; reason::ALL.len()],
}

impl Default for Metrics {
    fn default() -> Self {
        let reasons = std::array::from_fn(|_| AtomicU64::new(0));
        Self { traffic: Traffic::default(), reloads: Reloads::default(), reasons }
    }
}

impl Metrics {
    /// A request ended for this reason.
    pub fn ended(&self, why: Reason) {
        let all = reason::ALL.iter().zip(&self.reasons);
        if let Some((_, count)) = all.into_iter().find(|(known, _)| known.code == why.code) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Every reason with how often it ended a request.
    pub fn reasons(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        // Reasons that differ in their status alone share a code, and count at the first of them.
        let first = |n: &usize, code| !reason::ALL.iter().take(*n).any(|other| other.code == code);
        let all = reason::ALL.iter().zip(&self.reasons).enumerate();
        all.filter(move |(n, (reason, _))| first(n, reason.code))
            .map(|(_, (reason, count))| (reason.code, count.load(Ordering::Relaxed)))
    }
}
