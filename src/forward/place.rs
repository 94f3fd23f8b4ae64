//! A place at a server: the client's own one if it has one, otherwise what the farm chooses.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use pingora::proxy::Session;

use super::Ctx;
use crate::{
    farm::{Farm, Home, Refused, Server, State, Wish},
    listen::{Connection, Handle},
    pin::{self, Holds, Verdict},
    reason::{self, Reason},
    site::Rule,
};

/// Finds a place for a request that was let in, or the reason why there is none. Waits in the
/// farm's queue if it has to.
///
/// Done before connecting, so that a farm without a server costs its clients an answer and not
/// their connection.
pub(super) async fn find(session: &Session, ctx: &mut Ctx, verdict: Verdict) -> Result<(), Reason> {
    let (Some(connection), Some(farm)) = (ctx.connection.clone(), ctx.farm.clone()) else {
        return Err(reason::INTERNAL);
    };
    let counted = match verdict {
        Verdict::Pinned { counted } => Some(counted),
        _ => None,
    };
    let holds = counted.map(|_| hold(ctx, &connection));
    let name = &farm.spec().name;
    // The time in a queue is not the client's. Test: a_sign_in_may_wait_for_its_place
    holds.iter().for_each(|holds| holds.waits(name, None));
    let pin = holds.as_ref().and_then(|holds| pin_of(holds, &farm));
    let affinity = farm.affinity(ctx.source(), &session.req_header().headers);
    let home = match (&pin, &affinity) {
        (Some(pin), _) => Some((pin, true)),
        (None, Some(home)) => Some((&home.server, false)),
        (None, None) => None,
    };
    if let Err(reason) = take(ctx, &farm, home).await {
        holds.iter().for_each(|holds| holds.waits(name, Some(Instant::now())));
        return Err(reason);
    }
    let at = |pin: &Arc<Server>| ctx.server.as_ref().is_some_and(|server| server.id() == pin.id());
    ctx.homed = pin.as_ref().is_some_and(at);
    // A pin does not take its client's affinity away.
    if !ctx.homed || affinity.is_none() {
        keep(ctx, &farm, affinity.as_ref());
    }
    match (holds, counted, ctx.rule.clone()) {
        (Some(holds), Some(counted), Some(rule)) => {
            occupy(ctx, &holds, &connection, &rule, &farm, counted)
        }
        _ => Ok(()),
    }
}

/// Takes a place at this server (of a pin, or of affinity), or at whichever the farm says.
async fn take(
    ctx: &mut Ctx,
    farm: &Farm,
    home: Option<(&Arc<Server>, bool)>,
) -> Result<(), Reason> {
    let (home, pinned) = (home.map(|(home, _)| home), home.is_some_and(|(_, pinned)| pinned));
    let wish = Wish { key: ctx.key, home, pinned, tried: &ctx.tried };
    let placed = tokio::select! {
        biased;
        placed = farm.place(&wish) => placed,
        // A client that left must not keep its place in the line, nor reach the server.
        // Test: a_client_that_leaves_while_it_waits_gives_its_turn_away
        () = left(ctx.connection.as_deref()) => return Err(reason::CLIENT_LEFT),
    };
    match placed {
        Ok(place) => {
            ctx.goes_to(place);
            Ok(())
        }
        Err(Refused::NoServer) => Err(reason::NO_SERVER),
        Err(Refused::QueueFull) => Err(reason::QUEUE_FULL),
        Err(Refused::QueueTimeout) => Err(reason::QUEUE_TIMEOUT),
    }
}

/// Returns when the client is gone.
async fn left(connection: Option<&Connection>) {
    const LOOK: Duration = Duration::from_millis(250);
    let Some(handle) = connection.and_then(|connection| Handle::of(connection.fd)) else {
        return std::future::pending().await;
    };
    while !handle.hung_up() {
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits for a place for another attempt, where there was none at once.
pub(super) async fn again(ctx: &mut Ctx) -> Result<(), Reason> {
    let Some(farm) = ctx.farm.clone() else { return Err(reason::INTERNAL) };
    take(ctx, &farm, None).await?;
    moved(ctx, &farm);
    Ok(())
}

/// The client keeps its new server, if the farm has affinity.
fn keep(ctx: &mut Ctx, farm: &Farm, affinity: Option<&Home>) {
    let Some(server) = &ctx.server else { return };
    let told = affinity.is_some_and(|home| home.told && home.server.id() == server.id());
    if !told {
        ctx.cookie = farm.keep(ctx.source(), server, ctx.https()).cloned();
    }
}

/// The request goes to another server than the one it was first meant for.
pub(super) fn moved(ctx: &mut Ctx, farm: &Farm) {
    if let (Some(holds), Some(rule), Some(server)) = (&ctx.holds, &ctx.rule, &ctx.server) {
        holds.choose(&ctx.live.site, rule, server, None);
    }
    keep(ctx, farm, None);
}

/// What the client connection holds on to, as far as it still may.
fn hold(ctx: &mut Ctx, connection: &Connection) -> Arc<Holds> {
    connection.pinned.store(true, Ordering::Relaxed);
    let holds = Holds::of(connection);
    // A reload took away what a sign-in was made with: one more answer, then it ends.
    ctx.close |= holds.recheck(&ctx.live.site);
    holds
}

/// The server that a client connection is pinned to in this farm. It goes on there also when
/// probes say that the server is down: its connection may stand. A drained server is kept, that is
/// what draining is; one in maintenance is out, and the sign-in ends with the connection to it:
/// one more answer, from another server.
fn pin_of(holds: &Holds, farm: &Farm) -> Option<Arc<Server>> {
    let home = holds.server(&farm.spec().name)?;
    let server = farm.servers().iter().find(|server| *server.name() == home)?;
    (server.state() != State::Maintenance).then(|| server.clone())
}

/// A pinned connection: its server is chosen once, and keeps its place in the count.
fn occupy(
    ctx: &mut Ctx,
    holds: &Arc<Holds>,
    connection: &Connection,
    rule: &Rule,
    farm: &Farm,
    counted: bool,
) -> Result<(), Reason> {
    let (live, name) = (ctx.live.clone(), &farm.spec().name);
    let Some(server) = &ctx.server else { return Ok(()) };
    let place = if counted && !holds.counted(name) {
        let limits = &live.site.limits;
        let limits = pin::Limits { all: limits.pins, per_source: limits.pins_per_source };
        let client = Handle::of(connection.fd);
        let place = live.pins.admit(ctx.source(), client, limits, Instant::now());
        Some(place.ok_or(reason::TOO_MANY_PINS)?)
    } else {
        None
    };
    if place.is_some() || !ctx.homed {
        holds.choose(&live.site, rule, server, place);
    }
    holds.waits(name, None);
    ctx.holds = Some(holds.clone());
    Ok(())
}
