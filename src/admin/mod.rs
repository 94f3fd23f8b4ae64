//! The admin side: health endpoints and the API, apart from traffic, on loopback or a Unix socket
//! unless a token guards it.

mod answer;
mod api;
mod app;
mod client;
mod context;
mod desk;
mod events;
mod explained;
mod guard;
mod health;
mod history;
mod inventory;
mod metrics;
mod page;
mod place;
mod reloading;
mod reloads;
mod server;
mod stream;
mod told;
mod view;

pub use client::{Ask, get};
pub use context::Context;
pub use events::EventList;
pub use explained::query as explain_query;
pub use inventory::{
    CertificateRow, Certificates, FarmRow, Farms, ListenerRow, PinnedServer, PinnedSource, Pins,
    ProxiedRow, RuleRow, Site,
};
pub use metrics::Scrape;
pub use place::Place;
pub use reloading::{ReloadAsked, ReloadBody, ReloadResult, Reloaded};
pub use reloads::{Changes, Reload};
pub use server::{Doors, Running, bind, start};
pub use view::{ChangedRow, Done, OrderBody, ProblemBody, ServerRow, Servers};
