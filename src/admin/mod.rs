//! The admin side: health endpoints and the API, apart from traffic, on loopback or a Unix socket
//! unless a token guards it.

mod answer;
mod api;
mod app;
mod client;
mod context;
mod explained;
mod guard;
mod health;
mod metrics;
mod reloading;
mod server;
mod view;

pub use client::{Ask, get};
pub use context::Context;
pub use explained::query as explain_query;
pub use metrics::Scrape;
pub use reloading::{ReloadAsked, ReloadBody, ReloadResult, Reloaded};
pub use server::{Running, start};
pub use view::{ChangedRow, Done, OrderBody, ProblemBody, ServerRow, Servers};
