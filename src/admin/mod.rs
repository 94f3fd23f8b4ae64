//! The admin side: health endpoints and the API, apart from traffic, on loopback or a Unix socket
//! unless a token guards it.

mod answer;
mod api;
mod app;
mod client;
mod context;
mod events;
mod guard;
mod health;
mod server;
mod stream;
mod view;

pub use client::{Ask, get};
pub use context::Context;
pub use events::EventList;
pub use server::{Running, start};
pub use view::{ChangedRow, Done, OrderBody, ProblemBody, ServerRow, Servers};
