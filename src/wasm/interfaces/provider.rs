//! The callee's side: a program whose exports others call, under its own limits and with what it was given itself.

use super::exporter::{Answer, Answering, Call, Exporter, Partner, Work};
use super::types::Wanted;
use super::values::{handles, weight};
use crate::Program;
use crate::control::Control;
use crate::exit::Exit;
use crate::idle::Idle;
use crate::limits::OutOfMemory;
use crate::meter::Meter;
use crate::state::{Blueprint, State};
use crate::ticker::Ticker;
use crate::tools::Tools;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use wasmtime::Store;
use wasmtime::component::{Func, Instance, Val};

/// Calls that one program answers at once; more wait.
const CALLS_MAX: usize = 512;

/// How long a call waits for others to end, or to give back memory. Programs that call each other may all wait.
const PLACE_PATIENCE: Duration = Duration::from_secs(30);

/// Calls after which a kept instance is given up, so that what it leaks does not pile up.
const SERVED_MAX: u32 = 100_000;

/// A running program whose exports may be called.
pub(crate) struct Provider {
    tools: Arc<Tools>,
    program: Program,
    blueprint: Arc<Blueprint>,
    control: Arc<Control>,
    /// Ends all calls, with the program or before.
    over: CancellationToken,
    calls: TaskTracker,
    permits: Semaphore,
    /// Instances between two calls, for whoever calls next. None: each instance that calls has one of its own.
    idle: Option<Idle<Box<Callee>>>,
}

/// An instance that answers calls, one at a time.
struct Callee {
    store: Store<State>,
    instance: Instance,
    meter: Meter,
    served: u32,
    /// Resources in it of which its caller has handles: until they are dropped it is that caller's.
    lent: u64,
}

/// Keeps a program open for calls; dropped, it ends those that are left.
pub(crate) struct Offer(pub(super) Arc<Provider>);

impl Offer {
    /// Waits for the calls that have been begun. No further ones are taken in when the program was told to stop.
    pub(crate) async fn drained(&self) {
        self.0.calls.close();
        self.0.calls.wait().await;
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        self.0.over.cancel();
    }
}

impl Callee {
    async fn call(&mut self, ticker: &Ticker, call: Call) -> wasmtime::Result<Vec<Val>> {
        self.store.data_mut().calls.depth = call.depth;
        let values = match call.work {
            Work::Function {
                params,
                results,
                given,
            } => {
                let function = self.function(&call.interface, &call.function);
                let function = function.ok_or_else(|| wasmtime::Error::msg("it does not export that"))?;
                let mut values = vec![Val::Bool(false); results];
                let calling = function.call_async(&mut self.store, &params, &mut values);
                self.meter.run(ticker, calling).await?;
                self.lent = self.lent.saturating_sub(given) + handles(&values);
                values
            }
            Work::Drop(resource) => {
                let dropping = resource.resource_drop_async(&mut self.store);
                self.meter.run(ticker, dropping).await?;
                self.lent = self.lent.saturating_sub(1);
                Vec::new()
            }
        };
        self.served += 1;
        Ok(values)
    }

    fn function(&mut self, interface: &str, function: &str) -> Option<Func> {
        let interface = self.instance.get_export_index(&mut self.store, None, interface)?;
        let function = self
            .instance
            .get_export_index(&mut self.store, Some(&interface), function)?;
        self.instance.get_func(&mut self.store, function)
    }
}

impl Provider {
    pub(super) fn new(
        tools: Arc<Tools>,
        program: Program,
        blueprint: Arc<Blueprint>,
        control: Arc<Control>,
        reuse: bool,
    ) -> Arc<Provider> {
        Arc::new(Provider {
            over: control.kill.child_token(),
            tools,
            program,
            blueprint,
            control,
            calls: TaskTracker::new(),
            permits: Semaphore::new(CALLS_MAX),
            idle: reuse.then(Idle::default),
        })
    }

    async fn answer(self: Arc<Self>, partner: Option<Box<Callee>>, call: Call) -> Result<Answer, String> {
        let Ok(Ok(_permit)) = timeout(PLACE_PATIENCE, self.permits.acquire()).await else {
            return Err(format!("it has been answering {CALLS_MAX} calls for too long"));
        };
        let name = format!("{}#{}", call.interface, call.function);
        let answered = async {
            let mut callee = match partner {
                Some(partner) => partner,
                None => self.instance().await?,
            };
            let values = callee.call(&self.tools.ticker, call).await?;
            let held = self.blueprint.account.hold(weight(&values))?;
            Ok::<_, wasmtime::Error>((values, callee, held))
        };
        match answered.await {
            Ok((values, callee, _held)) => {
                let partner = self.put_back(callee).map(|callee| Partner {
                    exporter: Arc::<Self>::downgrade(&self),
                    instance: callee,
                });
                Ok(Answer {
                    values,
                    partner,
                    _held,
                })
            }
            Err(error) => Err(self.failed(&name, &error)),
        }
    }

    /// A kept instance, or a new one.
    async fn instance(&self) -> wasmtime::Result<Box<Callee>> {
        let account = &self.blueprint.account;
        let found = timeout(PLACE_PATIENCE, async {
            match &self.idle {
                Some(idle) => idle.take_or_room(account).await,
                None => {
                    account.room().await;
                    None
                }
            }
        });
        let waited = |_| wasmtime::Error::msg("there has been no memory for another instance for too long");
        if let Some(kept) = found.await.map_err(waited)? {
            return Ok(kept);
        }
        let pre = self.program.instance_pre();
        let pre = pre.ok_or_else(|| wasmtime::Error::msg("it is no component"))?;
        let (mut store, meter) = self.blueprint.handler(&self.tools.base.engine)?;
        let instance = meter
            .run(&self.tools.ticker, pre.instantiate_async(&mut store))
            .await?;
        Ok(Box::new(Callee {
            store,
            instance,
            meter,
            served: 0,
            lent: 0,
        }))
    }

    /// Keeps an instance for whoever calls next, or leaves it to its caller: one with resources of which the caller has
    /// handles is that caller's until these are dropped, and ends with it.
    fn put_back(&self, callee: Box<Callee>) -> Option<Box<Callee>> {
        match &self.idle {
            Some(_) if callee.lent > 0 => Some(callee),
            Some(_) if callee.served >= SERVED_MAX => None,
            Some(idle) => {
                idle.put(callee);
                None
            }
            None => Some(callee),
        }
    }

    /// A call went wrong: tells the callee's log, and ends the callee if it broke its memory limit, as the kernel would.
    /// The caller learns why, and not what it would end of itself.
    fn failed(&self, function: &str, error: &wasmtime::Error) -> String {
        let exit = Exit::from_error(error);
        let why = match exit.message.as_str() {
            "" => format!("it exited with code {}", exit.code),
            message => message.to_owned(),
        };
        self.blueprint.tell(&format!("{function}: {why}"));
        if error.is::<OutOfMemory>() {
            self.control.break_off(exit);
        }
        why
    }
}

impl Exporter for Provider {
    fn digest(&self) -> &str {
        self.program.digest()
    }

    fn fits(&self, wanted: &Wanted) -> Result<(), String> {
        let component = self.program.component();
        let fits = component.and_then(|component| wanted.fits(self.program.engine(), component));
        fits.unwrap_or_else(|| Err("it does not export it any more".to_owned()))
    }

    fn is_open(&self) -> bool {
        !self.control.stop.is_cancelled() && !self.over.is_cancelled()
    }

    fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    fn call(self: Arc<Self>, partner: Option<Partner>, call: Call) -> Answering {
        // What is no instance of this program's is given up, as one of an earlier run is.
        let callee = partner.and_then(|partner| partner.instance.downcast::<Callee>().ok());
        // A task of its own: its time and its stack are not the caller's. It ends with whoever called.
        let (over, calls) = (self.over.clone(), self.calls.clone());
        let answering = over.run_until_cancelled_owned(self.answer(callee, call));
        let answer = AbortOnDropHandle::new(calls.spawn(answering));
        Box::pin(async {
            match answer.await {
                Ok(Some(answer)) => answer,
                Ok(None) => Err("it was ended".to_owned()),
                Err(_) => Err("internal error of the wasm host, see its log".to_owned()),
            }
        })
    }
}
