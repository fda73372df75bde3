//! The callee's side: a program whose exports others call, under its own limits and with what it was given itself.

use super::types::Wanted;
use super::values::weight;
use crate::Program;
use crate::exit::Exit;
use crate::host::Tools;
use crate::idle::Idle;
use crate::instance::Control;
use crate::limits::{Held, OutOfMemory};
use crate::meter::Meter;
use crate::state::{Blueprint, State};
use crate::ticker::Ticker;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use wasmtime::Store;
use wasmtime::component::{Instance, Val};

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
    idle: Option<Idle<Callee>>,
}

/// One call.
pub(super) struct Call {
    pub(super) interface: String,
    pub(super) function: String,
    pub(super) params: Vec<Val>,
    /// How many values it gives.
    pub(super) results: usize,
    pub(super) depth: u32,
}

/// What a call gave.
pub(super) struct Answer {
    pub(super) values: Vec<Val>,
    /// The instance, if it is the caller's to keep.
    pub(super) partner: Option<Callee>,
    _held: Held,
}

/// An instance that answers calls, one at a time.
pub(crate) struct Callee {
    store: Store<State>,
    instance: Instance,
    meter: Meter,
    provider: Weak<Provider>,
    served: u32,
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
    /// Whether it was made by this run of its program.
    pub(super) fn is_of(&self, provider: &Arc<Provider>) -> bool {
        std::ptr::eq(self.provider.as_ptr(), Arc::as_ptr(provider))
    }

    async fn call(&mut self, ticker: &Ticker, call: &Call) -> wasmtime::Result<Vec<Val>> {
        let missing = || wasmtime::Error::msg("it does not export that");
        let interface = self
            .instance
            .get_export_index(&mut self.store, None, &call.interface);
        let interface = interface.ok_or_else(missing)?;
        let function = self
            .instance
            .get_export_index(&mut self.store, Some(&interface), &call.function);
        let function = function.ok_or_else(missing)?;
        let function = self
            .instance
            .get_func(&mut self.store, function)
            .ok_or_else(missing)?;
        self.store.data_mut().calls.depth = call.depth;
        let mut values = vec![Val::Bool(false); call.results];
        let calling = function.call_async(&mut self.store, &call.params, &mut values);
        self.meter.run(ticker, calling).await?;
        self.served += 1;
        Ok(values)
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

    pub(super) fn digest(&self) -> &str {
        self.program.digest()
    }

    /// Whether its program exports what somebody imports.
    pub(super) fn fits(&self, wanted: &Wanted) -> Result<(), String> {
        let component = self.program.component();
        let fits = component.and_then(|component| wanted.fits(self.program.engine(), component));
        fits.unwrap_or_else(|| Err("it does not export it any more".to_owned()))
    }

    /// Whether it takes calls in.
    pub(super) fn is_open(&self) -> bool {
        !self.control.stop.is_cancelled() && !self.over.is_cancelled()
    }

    /// Answers a call, with the caller's own instance if it has one.
    pub(super) async fn call(self: Arc<Self>, partner: Option<Callee>, call: Call) -> Result<Answer, String> {
        // A task of its own: its time and its stack are not the caller's. It ends with whoever called.
        let (over, calls) = (self.over.clone(), self.calls.clone());
        let answering = over.run_until_cancelled_owned(self.answer(partner, call));
        let answer = AbortOnDropHandle::new(calls.spawn(answering)).await;
        match answer {
            Ok(Some(answer)) => answer,
            Ok(None) => Err("it was ended".to_owned()),
            Err(_) => Err("internal error of the wasm host, see its log".to_owned()),
        }
    }

    async fn answer(self: Arc<Self>, partner: Option<Callee>, call: Call) -> Result<Answer, String> {
        let Ok(Ok(_permit)) = timeout(PLACE_PATIENCE, self.permits.acquire()).await else {
            return Err(format!("it has been answering {CALLS_MAX} calls for too long"));
        };
        let answered = async {
            let mut callee = match partner {
                Some(partner) => partner,
                None => self.instance().await?,
            };
            let values = callee.call(&self.tools.ticker, &call).await?;
            let held = self.blueprint.account.hold(weight(&values))?;
            Ok::<_, wasmtime::Error>((values, callee, held))
        };
        match answered.await {
            Ok((values, callee, _held)) => Ok(Answer {
                values,
                partner: self.put_back(callee),
                _held,
            }),
            Err(error) => Err(self.failed(&call, &error)),
        }
    }

    /// A kept instance, or a new one.
    async fn instance(self: &Arc<Self>) -> wasmtime::Result<Callee> {
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
        Ok(Callee {
            store,
            instance,
            meter,
            provider: Arc::downgrade(self),
            served: 0,
        })
    }

    /// Keeps an instance for whoever calls next, or leaves it to its caller.
    fn put_back(&self, callee: Callee) -> Option<Callee> {
        match &self.idle {
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
    fn failed(&self, call: &Call, error: &wasmtime::Error) -> String {
        let exit = Exit::from_error(error);
        let why = match exit.message.as_str() {
            "" => format!("it exited with code {}", exit.code),
            message => message.to_owned(),
        };
        self.blueprint
            .tell(&format!("{}#{}: {why}", call.interface, call.function));
        if error.is::<OutOfMemory>() {
            self.control.break_off(exit);
        }
        why
    }
}
