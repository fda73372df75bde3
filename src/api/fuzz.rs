//! Damaged input for everything that reads what clients send: nothing may panic, and no small input may need
//! much memory.
//!
//! The inputs are the objects of `kinds/samples.yaml` and `kinds/golden/` and the lines of `fuzz/`, with damage in
//! them. Each run tries a few hundred cases; `make fuzz` many more (`PROPTEST_CASES`).

use std::sync::LazyLock;

use base::{Random, SeededRandom};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::apply::{self, OneVersion, Write};
use crate::cel::{Budget, Program, Scope, Type, Val};
use crate::custom;
use crate::decode::{self, FieldValidation};
use crate::kind::{Findings, Kind, KindRef};
use crate::kinds::golden;
use crate::patch::{json_patch, merge_patch, strategic_merge};
use crate::quantity::Quantity;
use crate::schema::{Gvk, SchemaRef, Schemas};
use crate::selector::{FieldSelector, LabelSelector};
use crate::status::Status;
use crate::table::{self, Include};
use crate::{canon, protobuf};

/// The most memory that a case may leave a process with, KiB: far more than a run needs, far less than what an
/// input that multiplies itself would take.
const PEAK_KIB_MAX: u64 = 1024 * 1024;

static OBJECTS: LazyLock<Vec<(&'static Kind, Value)>> = LazyLock::new(golden::objects);
static EXPRESSIONS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| lines(include_str!("fuzz/expressions.txt")));
static SELECTORS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| lines(include_str!("fuzz/selectors.txt")));
static PATCHES: LazyLock<Vec<Value>> =
    LazyLock::new(|| serde_saphyr::from_str(include_str!("fuzz/patches.yaml")).expect("patches"));
static SCHEMAS: LazyLock<Vec<Value>> =
    LazyLock::new(|| serde_saphyr::from_str(include_str!("fuzz/schemas.yaml")).expect("schemas"));

fn lines(text: &str) -> Vec<Vec<u8>> {
    text.lines().map(|line| line.as_bytes().to_vec()).collect()
}

/// One of some texts, often with a piece of another in it, mostly damaged.
fn mixed(random: &SeededRandom, texts: &[Vec<u8>]) -> Vec<u8> {
    let mut text = random.one_of(texts).cloned().unwrap_or_default();
    let other = random.one_of(texts).map_or(&[][..], Vec::as_slice);
    if random.below(2) == 0 {
        let at = random.below(text.len() as u64 + 1) as usize;
        let (from, to) = (
            random.below(other.len() as u64 + 1),
            random.below(other.len() as u64 + 1),
        );
        let piece = other[from.min(to) as usize..from.max(to) as usize]
            .iter()
            .copied();
        let end = at + random.below((text.len() - at) as u64 + 1) as usize;
        text.splice(at..end, piece);
    }
    if random.below(4) > 0 {
        random.damage(&mut text);
    }
    text
}

fn spoken(random: &SeededRandom, texts: &[Vec<u8>]) -> String {
    String::from_utf8_lossy(&mixed(random, texts)).into_owned()
}

/// Changes some members of a value to odd ones that are mostly of the same type.
fn disturb(random: &SeededRandom, value: &mut Value) {
    let mut all = 0;
    each(value, &mut |_| all += 1);
    for _ in 0..1 + random.below(3) {
        let (chosen, mut at) = (random.below(all), 0);
        each(value, &mut |member| {
            if at == chosen {
                replace(random, member);
            }
            at += 1;
        });
    }
}

fn each(value: &mut Value, see: &mut dyn FnMut(&mut Value)) {
    see(value);
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| each(item, see)),
        Value::Object(map) => map.values_mut().for_each(|member| each(member, see)),
        _ => {}
    }
}

fn replace(random: &SeededRandom, member: &mut Value) {
    const TEXTS: [&str; 24] = [
        "",
        " ",
        "é",
        "-1",
        "0",
        "1",
        "/",
        "//",
        "..",
        ":",
        "::",
        "::/0",
        "[::1]:x",
        "a=b",
        "99999999999999999999Gi",
        "1e400",
        "9223372036854775807",
        "-0.000000000001",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "*.a",
        "%",
        "self.a == 1",
        "a,b in (c)",
    ];
    const NUMBERS: [i64; 8] = [
        0,
        -1,
        1,
        i32::MAX as i64,
        i32::MIN as i64,
        65536,
        i64::MAX,
        i64::MIN,
    ];
    let nothing = random.below(8) == 0;
    *member = match member {
        _ if nothing => Value::Null,
        Value::String(text) if random.below(3) == 0 => {
            let mut bytes = std::mem::take(text).into_bytes();
            random.damage(&mut bytes);
            String::from_utf8_lossy(&bytes).into()
        }
        Value::String(text) if random.below(6) == 0 => text.repeat(1 + random.below(300) as usize).into(),
        Value::String(_) => random.one_of(&TEXTS).copied().into(),
        Value::Number(_) => random.one_of(&NUMBERS).copied().into(),
        Value::Bool(is) => (!*is).into(),
        Value::Null => json!({}),
        Value::Array(items) => {
            match random.below(3) {
                0 => items.clear(),
                1 => items.extend(items.clone()),
                _ => items.push(Value::Null),
            }
            return;
        }
        Value::Object(map) => {
            let names: Vec<String> = map.keys().cloned().collect();
            let (Some(one), Some(other)) = (random.one_of(&names), random.one_of(&names)) else {
                return;
            };
            match random.below(3) {
                0 => drop(map.remove(one)),
                1 => drop(map.insert(one.clone(), map[other].clone())),
                _ => drop(map.insert(
                    random.one_of(&TEXTS).copied().unwrap_or_default().to_owned(),
                    map[other].clone(),
                )),
            }
            return;
        }
    };
}

fn schema_of(kind: &Kind) -> (SchemaRef, Gvk) {
    let schema = Schemas::builtin().for_kind(kind.group, kind.version, kind.kind);
    (
        schema.expect("every kind has a schema"),
        Gvk::new(kind.group, kind.version, kind.kind),
    )
}

/// What becomes of an object that was decoded: the way to its table row, and over each kind of write.
fn live(kind: &'static Kind, mut object: Value, old: &Value) {
    let (schema, _) = schema_of(kind);
    (kind.default)(&mut object);
    canon::canonicalize(&mut object, &schema);
    let mut made = object.clone();
    (kind.prepare_create)(&mut made);
    refuse(kind, &kind.check_create(&made));
    let _ = (kind.warnings)(&made, None);
    let mut changed = object.clone();
    (kind.prepare_update)(&mut changed, old);
    refuse(kind, &kind.check_update(&changed, old));
    let _ = (kind.warnings)(&changed, Some(old));
    for part in kind.subresources.iter().filter_map(|sub| kind.part(sub.name)) {
        let mut changed = object.clone();
        (part.prepare)(&mut changed, old);
        refuse(kind, &(part.validate)(&changed, old));
    }
    let _ = (kind.fields)(&object);
    table::table(
        &KindRef::from(kind),
        &object,
        Include::Metadata,
        true,
        Timestamp::UNIX_EPOCH,
    );
    protobuf::encode(&object, &schema);
}

/// The answer is written, too.
fn refuse(kind: &Kind, errors: &[crate::status::FieldError]) {
    let _ = serde_json::to_string(&Status::invalid(kind.group, kind.kind, "n", errors));
}

fn write<'a>(schema: &'a crate::schema::Schema, version: &'a str) -> Write<'a> {
    Write {
        manager: "m",
        api_version: version,
        subresource: "",
        now: Timestamp::UNIX_EPOCH,
        schema,
        reset: &[],
        versions: &OneVersion,
    }
}

/// Nothing so far has needed much memory. The most that the process ever had, where the system says that.
fn small() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    assert!(peak.unwrap_or_default() < PEAK_KIB_MAX, "{peak:?} KiB");
}

/// What is damaged below is good before, or the damage would find nothing.
#[test]
fn what_is_not_damaged_is_read() {
    for (kind, object) in OBJECTS.iter() {
        let (schema, gvk) = schema_of(kind);
        let body = yaml(object, 0);
        let read = decode::decode(
            body.as_bytes(),
            "application/yaml",
            &schema,
            FieldValidation::Ignore,
            &gvk,
        );
        let plain = object.to_string();
        let wanted = decode::decode(
            plain.as_bytes(),
            "application/json",
            &schema,
            FieldValidation::Ignore,
            &gvk,
        );
        assert_eq!(
            read.map(|read| read.0).ok(),
            wanted.map(|read| read.0).ok(),
            "{body}"
        );
    }
    let mut wrong = Vec::new();
    for source in EXPRESSIONS.iter().map(|line| String::from_utf8_lossy(line)) {
        let program = Program::compile(&source, &["self", "object", "authorizer"]);
        wrong.extend(
            program
                .and_then(|program| program.judge(&source, &[]).map(drop))
                .err(),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for schema in SCHEMAS.iter() {
        let errors = custom::validate_schema(&crate::value::Field::new(schema, "schema"), false);
        assert!(errors.is_empty(), "{errors:?}");
    }
}

proptest! {
    /// Bodies in each of the three forms.
    #[test]
    fn damaged_bodies_are_refused_or_read(seed: u64) {
        let random = SeededRandom::new(seed);
        let (kind, object) = random.one_of(&OBJECTS).expect("objects");
        let (schema, gvk) = schema_of(kind);
        let (mut body, form) = match seed % 3 {
            0 => (object.to_string().into_bytes(), "application/json"),
            1 => (yaml(object, 0).into_bytes(), "application/yaml"),
            _ => (protobuf::encode(object, &schema), "application/vnd.kubernetes.protobuf"),
        };
        random.damage(&mut body);
        for validation in [FieldValidation::Ignore, FieldValidation::Strict] {
            if let Ok((read, _)) = decode::decode(&body, form, &schema, validation, &gvk) {
                live(kind, read, object);
            }
        }
        let _ = decode::decode_patch(&body, FieldValidation::Warn);
        let _ = decode::decode_applied(&body, &schema, FieldValidation::Warn, &gvk);
        small();
    }

    /// Objects whose form is right, and not much else.
    #[test]
    fn odd_objects_are_refused_or_taken(seed: u64) {
        let random = SeededRandom::new(seed);
        let (kind, object) = random.one_of(&OBJECTS).expect("objects");
        let (schema, gvk) = schema_of(kind);
        let mut odd = object.clone();
        disturb(&random, &mut odd);
        let read = decode::decode(odd.to_string().as_bytes(), "application/json", &schema, FieldValidation::Warn, &gvk);
        if let Ok((read, _)) = read {
            live(kind, read, object);
        }
        small();
    }

    /// Patches of every type, and what they make.
    #[test]
    fn damaged_patches_do_no_harm(seed: u64) {
        let random = SeededRandom::new(seed);
        let (kind, object) = random.one_of(&OBJECTS).expect("objects");
        let (schema, _) = schema_of(kind);
        let mut other = random.one_of(&OBJECTS).expect("objects").1.clone();
        let mut mine = object.clone();
        disturb(&random, &mut mine);
        disturb(&random, &mut other);
        let mut patch = random.one_of(&PATCHES).cloned().unwrap_or_default();
        disturb(&random, &mut patch);
        let mut made = vec![merge_patch(object.clone(), mine.clone()), merge_patch(object.clone(), other.clone())];
        made.extend(json_patch(object.clone(), &patch));
        for patch in [mine.clone(), other.clone(), patch] {
            made.extend(strategic_merge(object.clone(), patch, &schema));
        }
        let version = kind.api_version();
        let write = write(&schema, &version);
        let first = apply::apply(None, object.clone(), &write, false);
        for applied in [mine, other] {
            let Ok(live) = &first else { break };
            let other = Write { manager: "n", ..write };
            made.extend(apply::apply(Some(live), applied.clone(), &write, false));
            made.extend(apply::apply(Some(live), applied.clone(), &other, true));
            made.push(apply::update_managed_fields(Some(live), applied, &other));
        }
        for value in made {
            if let Ok((read, _)) = decode::check_patched(value, &schema, FieldValidation::Warn) {
                live(kind, read, object);
            }
        }
        small();
    }

    /// Selectors and the other small texts in a request's parameters and objects.
    #[test]
    fn damaged_texts_are_refused_or_read(seed: u64) {
        let random = SeededRandom::new(seed);
        let text = spoken(&random, &SELECTORS);
        let labels = std::collections::BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        if let Ok(selector) = LabelSelector::parse(&text) {
            selector.matches(&labels);
        }
        if let Ok(selector) = FieldSelector::parse(&text) {
            selector.matches(&labels);
            let (kind, _) = random.one_of(&OBJECTS).expect("objects");
            let _ = selector.for_kind(kind);
        }
        if let Ok(quantity) = text.parse::<Quantity>() {
            let _ = (quantity.value(), quantity.milli(), quantity.as_f64(), quantity.round_up_milli());
        }
        let _ = text.parse::<crate::cidr::Cidr>();
        let _ = (custom::is_simple_path(&text), custom::member(&text, &Value::Null, true).is_ok());
        small();
    }

    /// Expressions: what is judged to give a type gives it or fails, and never costs more than it was said to.
    #[test]
    fn damaged_expressions_do_no_harm(seed: u64) {
        let random = SeededRandom::new(seed);
        let source = spoken(&random, &EXPRESSIONS);
        let (_, object) = random.one_of(&OBJECTS).expect("objects");
        let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}, "s": {"type": "string",
            "maxLength": 9}, "list": {"type": "array", "items": {"type": "integer"}, "maxItems": 9}}});
        let known = json!({"n": i64::MAX, "s": "é1Gi", "list": [1, 2, i64::MIN]});
        if let Ok(program) = Program::compile(&source, &["self", "object", "authorizer"]) {
            let judged = program.judge(&source, &[("self", Type::of(&schema)), ("object", Type::DYN)]);
            let scope = Scope::new()
                .with("self", Val::json(&known, Some(&schema)))
                .with("object", Val::json(object, None));
            let made = program.eval(&scope, &mut Budget::new(200_000));
            if let (Ok(Type::Bool), Ok(made)) = (judged.map(|judged| judged.kind), made) {
                prop_assert_eq!(made.type_name(), "bool", "{}", source);
            }
        }
        small();
    }

    /// Definitions with odd schemas, and objects of them.
    #[test]
    fn damaged_schemas_do_no_harm(seed: u64) {
        let random = SeededRandom::new(seed);
        let mut schema = random.one_of(&SCHEMAS).cloned().unwrap_or_default();
        let (_, object) = random.one_of(&OBJECTS).expect("objects");
        let mut object = object.clone();
        if seed % 4 > 0 {
            disturb(&random, &mut schema);
        }
        let _ = custom::validate_schema(&crate::value::Field::new(&schema, "schema"), true);
        let kind = custom::tests::kind(schema);
        kind.fill(&mut object);
        let _ = kind.check(&object, None, Findings::default());
        let mut changed = object.clone();
        disturb(&random, &mut changed);
        let _ = kind.check(&changed, Some(&object), Findings::default());
        small();
    }
}

/// The object in YAML's own form: what is written like JSON is not what people write.
fn yaml(value: &Value, depth: usize) -> String {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) if !map.is_empty() => map_lines(map, depth, &indent),
        Value::Array(items) if !items.is_empty() => {
            let item = |item: &Value| format!("\n{indent}-{}", yaml(item, depth + 1));
            items.iter().map(item).collect()
        }
        Value::String(text) if text.lines().count() > 1 => {
            let line = |line: &str| format!("\n{indent}{line}");
            format!(" |{}", text.lines().map(line).collect::<String>())
        }
        other => format!(" {other}"),
    }
}

fn map_lines(map: &Map<String, Value>, depth: usize, indent: &str) -> String {
    let entry = |(name, value): (&String, &Value)| {
        // A short word may mean yes or no.
        let name = if name.len() > 3 {
            name.clone()
        } else {
            format!("{name:?}")
        };
        format!("\n{indent}{name}:{}", yaml(value, depth + 1))
    };
    map.iter().map(entry).collect()
}
