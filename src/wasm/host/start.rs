//! Starting programs: what an instance is made from, checked, and who runs it.

use super::app::AppPart;
use super::working::Core;
use crate::control::{Control, Report};
use crate::http::{self, Outbound};
use crate::interfaces::{Member, Offer, bound};
use crate::limits::Account;
use crate::mounts::Mounts;
use crate::program::Program;
use crate::sockets::{Sockets, listen};
use crate::state::Blueprint;
use crate::tools::Tools;
use crate::{Instance, InstanceSpec, ListenAt, ProgramKind, WasmError, run};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use tokio::runtime::Handle;
use wasmtime::Engine;

impl Core {
    pub(super) async fn start(
        self: Arc<Self>,
        program: Program,
        mut spec: InstanceSpec,
        home: Handle,
    ) -> Result<Instance, WasmError> {
        let account = self.account(&spec);
        let (http_address, reuse) = (spec.http_address, spec.reuse);
        let stdin = std::mem::take(&mut spec.stdin);
        let member = Member::join(&program, &mut spec);
        if program.kind() == ProgramKind::Library {
            Member::check(member.as_ref())?;
        }
        let program = bound(&program, &self.tools.base, member.as_ref()).await?;
        let wanted = wanted(&program, &mut spec);
        let mut inherited = match program.kind() {
            // The guest binds its own.
            ProgramKind::Command => Vec::new(),
            _ => std::mem::take(&mut spec.inherited),
        };
        let blueprint = self.blueprint(&program, spec, account, home).await?;
        let tools = self.tools.clone();
        let offer = |control: &Arc<Control>| {
            let member = member.as_ref()?;
            member.offer(tools, &program, &blueprint, control, reuse)
        };
        if program.kind() == ProgramKind::Http {
            let site = http::Site::of_one(program.clone(), blueprint.clone(), reuse);
            return self.serve(site, &blueprint, http_address, inherited, offer);
        }
        let listeners = wanted
            .into_iter()
            .map(|at| listen(&blueprint.sockets, at.address, &mut inherited));
        let listeners = listeners.collect::<Result<Vec<_>, _>>()?;
        let control = Arc::new(Control::new(&blueprint, None));
        let offer = offer(&control);
        let report = Report(control.clone());
        if program.kind() == ProgramKind::Library {
            drop(tokio::spawn(run::library(offer, report)));
            return Ok(Instance::new(control, self));
        }
        drop(tokio::spawn(run::command(
            self.tools.clone(),
            program,
            blueprint,
            stdin,
            listeners,
            offer,
            report,
        )));
        Ok(Instance::new(control, self))
    }

    pub(super) async fn start_app(
        self: Arc<Self>,
        mut parts: Vec<AppPart>,
        home: Handle,
    ) -> Result<Instance, WasmError> {
        let first = parts.first_mut();
        let first = first.ok_or_else(|| WasmError::Spec("an application without programs".into()))?;
        let (account, http_address, reuse) = (
            self.account(&first.spec),
            first.spec.http_address,
            first.spec.reuse,
        );
        let inherited = std::mem::take(&mut first.spec.inherited);
        let mut ready = Vec::new();
        for mut part in parts {
            if part.program.kind() != ProgramKind::Http {
                let text = format!(
                    "{}: the program does not handle wasi:http requests",
                    part.spec.name
                );
                return Err(WasmError::Unsupported(text));
            }
            let member = Member::join(&part.program, &mut part.spec);
            let program = bound(&part.program, &self.tools.base, member.as_ref()).await?;
            let made = self
                .blueprint(&program, part.spec, account.clone(), home.clone())
                .await?;
            ready.push((program, part.routes, made));
        }
        let blueprint = ready.first().map(|(_, _, blueprint)| blueprint.clone());
        let blueprint = blueprint.ok_or_else(|| WasmError::Spec("an application without programs".into()))?;
        self.serve(
            http::Site::of_parts(ready, reuse),
            &blueprint,
            http_address,
            inherited,
            |_| None,
        )
    }

    fn account(&self, spec: &InstanceSpec) -> Arc<Account> {
        let memory_bytes_max = spec.memory_bytes_max.unwrap_or(self.tools.memory_bytes_max);
        Arc::new(Account::new(memory_bytes_max, spec.cpu_millis_max))
    }

    /// What a program's instances are made from, checked.
    async fn blueprint(
        &self,
        program: &Program,
        mut spec: InstanceSpec,
        account: Arc<Account>,
        home: Handle,
    ) -> Result<Arc<Blueprint>, WasmError> {
        let tools = &self.tools;
        check(tools, program, &spec)?;
        let wanted = std::mem::take(&mut spec.mounts);
        let scratch = tools.scratch.clone();
        let mounts = tokio::task::spawn_blocking(move || Mounts::prepare(&wanted, &scratch)).await;
        let mounts = mounts.map_err(|_| WasmError::Closed)??;
        let sockets = Sockets::new(spec.network.clone(), tools.ports.clone(), home);
        let sockets = sockets.limited(spec.allowed_hosts.take());
        let outbound = Outbound::new(sockets.clone(), tools.tls.clone());
        let blueprint = Blueprint::new(spec, mounts, sockets, outbound, account);
        // Mounts that cannot be opened are told now, not by the first request.
        blueprint.check_mounts()?;
        Ok(Arc::new(blueprint))
    }

    /// Serves programs at an address of the blueprint's network.
    fn serve(
        self: Arc<Self>,
        site: http::Site,
        blueprint: &Blueprint,
        address: Option<SocketAddr>,
        mut inherited: Vec<TcpListener>,
        offer: impl FnOnce(&Arc<Control>) -> Option<Offer>,
    ) -> Result<Instance, WasmError> {
        let address = address
            .ok_or_else(|| WasmError::Spec("a wasi:http program needs an address to listen on".into()))?;
        let listener = Arc::new(listen(&blueprint.sockets, address, &mut inherited)?);
        let control = Arc::new(Control::new(blueprint, Some(&listener)));
        let report = Report(control.clone());
        let (tools, name) = (self.tools.clone(), blueprint.name.clone());
        let server = http::Server::new(tools, site, name, &listener, &control);
        blueprint.sockets.introduce(listener.bound(), &server);
        let offer = offer(&control);
        drop(tokio::spawn(server.run(listener, offer, report)));
        Ok(Instance::new(control, self))
    }
}

/// Where a program is to listen, which it is told by its environment.
fn wanted(program: &Program, spec: &mut InstanceSpec) -> Vec<ListenAt> {
    let wanted = std::mem::take(&mut spec.listen);
    if !program.accepts() || wanted.is_empty() {
        return Vec::new();
    }
    let names: Vec<&str> = wanted.iter().map(|at| at.name.as_str()).collect();
    let told = [
        ("LISTEN_FDS", wanted.len().to_string()),
        ("LISTEN_FDNAMES", names.join(":")),
    ];
    for (name, value) in told {
        spec.env.retain(|(known, _)| known != name);
        spec.env.push((name.to_owned(), value));
    }
    wanted
}

fn check(tools: &Tools, program: &Program, spec: &InstanceSpec) -> Result<(), WasmError> {
    if !Engine::same(&tools.base.engine, program.engine()) {
        return Err(WasmError::Spec("the program was compiled by another host".into()));
    }
    let texts = spec
        .args
        .iter()
        .chain(spec.env.iter().flat_map(|(name, value)| [name, value]));
    if texts.into_iter().any(|text| text.contains('\0')) {
        return Err(WasmError::Spec(
            "an argument or environment variable contains a zero byte".into(),
        ));
    }
    Ok(())
}
