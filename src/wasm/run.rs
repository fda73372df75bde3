//! Runs commands and core modules.

use crate::Exit;
use crate::control::{Control, Report};
use crate::interfaces::Offer;
use crate::program::{Program, Ready};
use crate::sockets::Listener;
use crate::spec::Stdin;
use crate::state::{Blueprint, ModuleState, State};
use crate::tools::Tools;
use std::sync::Arc;
use wasmtime::InstancePre;
use wasmtime_wasi::p2::bindings::CommandPre;

/// Runs a program to its end, or until it is stopped or killed. What other programs call of it ends with it.
pub(crate) async fn command(
    tools: Arc<Tools>,
    program: Program,
    blueprint: Arc<Blueprint>,
    stdin: Stdin,
    listeners: Vec<Listener>,
    offer: Option<Offer>,
    report: Report,
) {
    let control = report.0.clone();
    // Kill comes first: a guest that computes yields at every tick, and must
    // not get another turn. The losing branches are dropped, and with them the
    // guest and its sockets, before the end is reported.
    let exit = tokio::select! {
        biased;
        () = control.kill.cancelled() => Exit::killed(),
        () = stopped(&control, &blueprint) => Exit::with_code(0),
        exit = guest(&tools, &program, &blueprint, stdin, listeners) => exit,
        never = blueprint.heirlooms.give_up() => match never {},
    };
    drop(offer);
    tracing::debug!(
        instance = blueprint.name,
        code = exit.code,
        message = exit.message,
        "wasm instance ended"
    );
    report.end(exit);
}

/// A program that others call and that does nothing by itself: until it is stopped and their calls are answered.
pub(crate) async fn library(offer: Option<Offer>, report: Report) {
    let control = report.0.clone();
    let exit = tokio::select! {
        biased;
        () = control.kill.cancelled() => Exit::killed(),
        () = called(&control, offer.as_ref()) => Exit::with_code(0),
    };
    drop(offer);
    report.end(exit);
}

async fn called(control: &Control, offer: Option<&Offer>) {
    control.stop.cancelled().await;
    if let Some(offer) = offer {
        offer.drained().await;
    }
}

/// The instance was asked to stop and is a server with nothing left to do.
async fn stopped(control: &Control, blueprint: &Blueprint) {
    control.stop.cancelled().await;
    blueprint.traffic.drained().await;
}

async fn guest(
    tools: &Tools,
    program: &Program,
    blueprint: &Blueprint,
    stdin: Stdin,
    listeners: Vec<Listener>,
) -> Exit {
    let result = match &program.inner.ready {
        Ready::Module(pre) => run_module(tools, pre, blueprint, stdin, listeners).await,
        Ready::Command(pre) => run_component(tools, pre, blueprint, stdin).await,
        Ready::Http(_) => return Exit::not_started("a wasi:http program is served, not run"),
        Ready::Library(_) => return Exit::not_started("the program is called, not run"),
        Ready::Unbound(_) => return Exit::not_started("the program's imports have not been found"),
    };
    result.unwrap_or_else(|error| Exit::from_error(&error))
}

async fn run_module(
    tools: &Tools,
    pre: &InstancePre<ModuleState>,
    blueprint: &Blueprint,
    stdin: Stdin,
    listeners: Vec<Listener>,
) -> wasmtime::Result<Exit> {
    let (mut store, meter) = blueprint.module(&tools.base.engine, stdin, listeners)?;
    let run = async {
        let instance = pre.instantiate_async(&mut store).await?;
        let start = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
        start.call_async(&mut store, ()).await
    };
    meter.run(&tools.ticker, run).await.map(|()| Exit::with_code(0))
}

async fn run_component(
    tools: &Tools,
    pre: &CommandPre<State>,
    blueprint: &Blueprint,
    stdin: Stdin,
) -> wasmtime::Result<Exit> {
    let (mut store, meter) = blueprint.command(&tools.base.engine, stdin)?;
    let run = async {
        let command = pre.instantiate_async(&mut store).await?;
        command.wasi_cli_run().call_run(&mut store).await
    };
    let result = meter.run(&tools.ticker, run).await?;
    Ok(Exit::with_code(if result.is_ok() { 0 } else { 1 }))
}
