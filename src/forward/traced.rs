//! The trace of a request on its way: where it begins, what servers are told, what happens to
//! attempts.

use std::time::Instant;

use http::HeaderMap;
use pingora::{Result, http::RequestHeader};

use super::Ctx;
use crate::{
    farm::Server,
    observe::traces::{Target, Trace},
    site::Address,
};

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

impl Ctx {
    /// Begins the trace of a request whose client is known, if traces are on.
    pub(super) fn begin_trace(&mut self, headers: &HeaderMap) {
        let Some(settings) = &self.live.site.traces else { return };
        // SECURITY: whoever is believed decides what is recorded and whose trace it joins; a
        // stranger could fill the collector, or hide in it. Test:
        // traces::a_stranger_is_not_believed_and_a_trusted_proxy_is (black box)
        let believed = self.client.as_ref().is_some_and(|client| client.told.is_some());
        let said = believed.then_some(headers);
        self.trace = Trace::begin(settings.sample, said, self.started);
    }

    /// An attempt at a server begins.
    pub(super) fn begin_attempt(&mut self, server: &Server, ip: std::net::IpAddr, https: bool) {
        let Some(trace) = self.trace.as_mut().filter(|trace| trace.sampled()) else { return };
        let spec = server.spec();
        let port = if https { spec.ports.https } else { spec.ports.http };
        let host = match &spec.address {
            Address::Name(name) => Some(name.clone()),
            Address::Ip(_) => None,
        };
        let (server, address) = (server.name().clone(), (ip, port).into());
        trace.attempt(Target { server, host, address, https }, Instant::now());
    }

    /// The attempt broke, for the reason that is known by now.
    pub(super) fn attempt_broke(&mut self) {
        if let (Some(trace), Some(why)) = (&mut self.trace, self.reason) {
            trace.broke(why, Instant::now());
        }
    }
}

/// Tells the server which trace it is part of. With traces off, what the client said passes.
///
/// # Errors
/// None that a client could bring about.
pub(super) fn tell(request: &mut RequestHeader, ctx: &Ctx) -> Result<()> {
    if ctx.live.site.traces.is_none() {
        return Ok(());
    }
    request.remove_header(TRACEPARENT);
    request.remove_header(TRACESTATE);
    let Some(trace) = &ctx.trace else { return Ok(()) };
    request.insert_header(TRACEPARENT, trace.header())?;
    if let Some(state) = trace.state() {
        request.insert_header(TRACESTATE, state)?;
    }
    Ok(())
}
