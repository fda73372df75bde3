//! The engine and the linkers: what all programs have in common.

use crate::WasmError;
use crate::limits::{MEMORY_BYTES_MAX, TABLE_ELEMENTS_MAX};
use crate::state::{ModuleState, State};
use crate::{keyvalue, logging, preview1, settings, sockets};
use wasmtime::component;
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, Linker, PoolingAllocationConfig, WasmBacktraceDetails,
};

/// Core instances, memories and tables that one component may be made of.
const PARTS_MAX: u32 = 100;

/// Engine and linkers. The linkers hold only host functions, so one of each
/// serves all programs.
pub(crate) struct Base {
    pub(crate) engine: Engine,
    pub(crate) modules: Linker<ModuleState>,
    /// For modules that accept connections.
    pub(crate) accepting: Linker<ModuleState>,
    pub(crate) components: component::Linker<State>,
}

impl Base {
    pub(crate) fn new(instances_max: u32) -> Result<Base, WasmError> {
        let engine = engine(instances_max)?;
        let mut modules = Linker::new(&engine);
        let added =
            wasmtime_wasi::p1::add_to_linker_async(&mut modules, |state: &mut ModuleState| &mut state.p1);
        added.map_err(broken)?;
        let mut accepting = modules.clone();
        preview1::add_to_linker(&mut accepting).map_err(broken)?;
        let components = component_linker(&engine).map_err(broken)?;
        Ok(Base {
            engine,
            modules,
            accepting,
            components,
        })
    }
}

fn component_linker(engine: &Engine) -> wasmtime::Result<component::Linker<State>> {
    let mut linker = component::Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    sockets::add_to_linker(&mut linker)?;
    settings::add_to_linker(&mut linker)?;
    logging::add_to_linker(&mut linker)?;
    keyvalue::add_to_linker(&mut linker)?;
    Ok(linker)
}

/// An engine whose pool holds so many instances, or fewer where address space
/// is rationed (`ulimit -v`, strict overcommit, small containers).
fn engine(instances_max: u32) -> Result<Engine, WasmError> {
    let mut instances = instances_max.max(1);
    loop {
        match Engine::new(&config(instances)) {
            Ok(engine) => return Ok(engine),
            Err(error) if instances > 8 => {
                instances /= 4;
                tracing::warn!(instances, %error, "address space is short, trying a smaller wasm pool");
            }
            Err(error) => return Err(broken(error)),
        }
    }
}

/// An engine that compiles for the host's, and runs nothing.
pub(crate) fn compiling() -> Result<Engine, WasmError> {
    // How many instances there is room for leaves no trace in compiled code.
    Engine::new(&config(1)).map_err(broken)
}

fn broken(error: wasmtime::Error) -> WasmError {
    WasmError::Engine(format!("{error:#}"))
}

fn config(instances: u32) -> Config {
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool(instances)))
        .epoch_interruption(true)
        // WASI 0.3 is not offered yet, and every store would pay for it.
        .concurrency_support(false)
        // Names and offsets are in every trap's message; file and line would
        // need the guest's debug information in memory.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .native_unwind_info(false)
        // What a guest left on its stack goes back to the system with it.
        .async_stack_zeroing(true);
    config
}

fn pool(instances: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::default();
    let several = instances.saturating_mul(4);
    // A component is several core instances and tables (program, adapter, glue)
    // around, mostly, one memory.
    pool.total_component_instances(instances)
        .total_core_instances(several)
        .total_tables(several)
        .total_memories(instances)
        .total_stacks(instances)
        .total_gc_heaps(instances.min(1000))
        .max_memory_size(MEMORY_BYTES_MAX)
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_core_instances_per_component(PARTS_MAX)
        .max_memories_per_component(PARTS_MAX)
        .max_tables_per_component(PARTS_MAX)
        .max_memories_per_module(PARTS_MAX)
        .max_tables_per_module(PARTS_MAX)
        // Slots that were used once go back to the system when they are free:
        // an idle host is to be small.
        .max_unused_warm_slots(16);
    pool
}
