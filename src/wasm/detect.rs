//! Tells what a file is before it is compiled, in words for people.

use crate::WasmError;

/// What the first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Module,
    Component,
}

impl Form {
    /// Its name between this process and the compiler's.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Form::Module => "module",
            Form::Component => "component",
        }
    }

    /// The form of that name.
    pub(crate) fn named(name: &str) -> Option<Form> {
        [Form::Module, Form::Component]
            .into_iter()
            .find(|form| form.name() == name)
    }
}

const MAGIC: &[u8] = b"\0asm";

/// Layer and version of a core module, and of a component.
const MODULE: [u8; 4] = [1, 0, 0, 0];
const COMPONENT: [u8; 4] = [0x0d, 0, 1, 0];

/// Largest program: compiling takes a multiple of its size in memory.
pub(crate) const PROGRAM_BYTES_MAX: usize = 256 << 20;

/// Module or component, from the first bytes; programs in text form are known
/// by their first word.
pub(crate) fn form(bytes: &[u8]) -> Result<Form, WasmError> {
    if bytes.len() > PROGRAM_BYTES_MAX {
        let most = PROGRAM_BYTES_MAX >> 20;
        return Err(WasmError::Unsupported(format!(
            "{} bytes long, at most {most} MiB are compiled",
            bytes.len()
        )));
    }
    if let Some(form) = text_form(bytes) {
        return Ok(form);
    }
    let invalid = |text: &str| Err(WasmError::Invalid(text.into()));
    if bytes.is_empty() {
        return invalid("the file is empty");
    }
    if !bytes.starts_with(MAGIC) {
        return invalid(match bytes {
            [0x7f, b'E', b'L', b'F', ..] => "this is a native ELF program, not WebAssembly",
            [b'#', b'!', ..] => "this is a script, not WebAssembly",
            _ => "it does not begin with \\0asm",
        });
    }
    match bytes.get(4..8) {
        Some(version) if version == MODULE => Ok(Form::Module),
        Some(version) if version == COMPONENT => Ok(Form::Component),
        Some([v0, v1, layer, _]) => invalid(&format!(
            "unknown version {} of layer {layer}; rebuild it with current tools",
            u16::from_le_bytes([*v0, *v1])
        )),
        _ => invalid("the file ends within its first eight bytes; it is truncated"),
    }
}

fn text_form(bytes: &[u8]) -> Option<Form> {
    let start = bytes.get(..bytes.len().min(64))?.trim_ascii_start();
    let word = start.strip_prefix(b"(")?.trim_ascii_start();
    match word {
        _ if word.starts_with(b"module") => Some(Form::Module),
        _ if word.starts_with(b"component") => Some(Form::Component),
        _ => None,
    }
}

/// Words a compile error for people.
pub(crate) fn compile_error(error: &wasmtime::Error) -> WasmError {
    let text = format!("{error:#}");
    if text.contains("unexpected end") || text.contains("out of bounds") && text.contains("section") {
        return WasmError::Invalid(format!(
            "the file ends too early, it is truncated or damaged ({text})"
        ));
    }
    if [
        "must be enabled",
        "proposal",
        "not supported",
        "pooling allocator",
    ]
    .iter()
    .any(|word| text.contains(word))
    {
        return WasmError::Unsupported(text);
    }
    WasmError::Invalid(text)
}

/// Words a link error for people: an import that this host lacks.
pub(crate) fn link_error(error: &wasmtime::Error) -> WasmError {
    WasmError::Unsupported(link_text(error))
}

/// The same, as the text alone.
pub(crate) fn link_text(error: &wasmtime::Error) -> String {
    let text = format!("{error:#}");
    let hint = if text.contains("fermyon:spin/") || text.contains("spin:") {
        "; this is one of Spin's own host interfaces, which are not offered here: use those of WASI"
    } else if text.contains("@0.3") {
        "; WASI 0.3 is not offered yet, build for WASI 0.2"
    } else if text.contains("__wbindgen") || text.contains("wbg") || text.contains("go.") {
        "; it was built for JavaScript hosts, build for WASI"
    } else {
        "; this host offers WASI 0.1 (core modules), WASI 0.2 and wasi:http 0.2"
    };
    format!("{text}{hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        assert_eq!(form(b"\0asm\x01\0\0\0").unwrap(), Form::Module);
        assert_eq!(form(b"\0asm\x0d\0\x01\0").unwrap(), Form::Component);
        assert_eq!(form(b" (module)").unwrap(), Form::Module);
        assert_eq!(form(b"(component)").unwrap(), Form::Component);
    }

    #[test]
    fn refusals_say_what_is_wrong() {
        let refused = |bytes: &[u8]| form(bytes).unwrap_err().to_string();
        assert_eq!(refused(b""), "invalid wasm program: the file is empty");
        assert!(refused(b"\0asm").contains("truncated"));
        assert!(refused(b"\0asm\x0a\0\x01\0").contains("unknown version 10 of layer 1"));
        assert!(refused(b"\x7fELF\x02\x01").contains("native ELF"));
        assert!(refused(b"#!/bin/sh").contains("script"));
        assert!(refused(b"hello").contains("\\0asm"));
        assert!(refused(&vec![0; PROGRAM_BYTES_MAX + 1]).contains("at most 256 MiB"));
    }
}
