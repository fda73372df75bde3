//! What functions take and give. Operators are in `infer`.

use std::rc::Rc;
use std::sync::LazyLock;

use super::types::{Type, UNBOUNDED};

/// One overload on a line: `receiver.name(parameters) result`. `A` and `B` stand for any type, the same throughout the
/// line; alternatives are parted by `|`.
const TABLE: &str = "
string.contains(string) bool
string.startsWith(string) bool
string.endsWith(string) bool
string.matches(string) bool
matches(string,string) bool
string.charAt(int) string
string.indexOf(string) int
string.indexOf(string,int) int
string.lastIndexOf(string) int
string.lastIndexOf(string,int) int
list(A).indexOf(A) int
list(A).lastIndexOf(A) int
string.lowerAscii() string
string.upperAscii() string
string.trim() string
string.replace(string,string) string
string.replace(string,string,int) string
string.split(string) list(string)
string.split(string,int) list(string)
string.substring(int) string
string.substring(int,int) string
list(string).join() string
list(string).join(string) string
string.format(list(dyn)) string
string.find(string) string
string.findAll(string) list(string)
string.findAll(string,int) list(string)
timestamp.getFullYear() int
timestamp.getFullYear(string) int
timestamp.getMonth() int
timestamp.getMonth(string) int
timestamp.getDate() int
timestamp.getDate(string) int
timestamp.getDayOfMonth() int
timestamp.getDayOfMonth(string) int
timestamp.getDayOfWeek() int
timestamp.getDayOfWeek(string) int
timestamp.getDayOfYear() int
timestamp.getDayOfYear(string) int
timestamp|duration.getHours() int
timestamp.getHours(string) int
timestamp|duration.getMinutes() int
timestamp.getMinutes(string) int
timestamp|duration.getSeconds() int
timestamp.getSeconds(string) int
timestamp|duration.getMilliseconds() int
timestamp.getMilliseconds(string) int
size(string|bytes|list(A)|map(A,B)) int
string|bytes|list(A)|map(A,B).size() int
int(int|uint|double|string|timestamp|duration) int
uint(int|uint|double|string) uint
double(int|uint|double|string) double
string(string|bool|bytes|double|duration|int|timestamp|uint|net.IP|net.CIDR|kubernetes.Quantity) string
bool(bool|string) bool
bytes(bytes|string) bytes
dyn(A) dyn
type(A) type
duration(duration|int|string) duration
timestamp(timestamp|int|string) timestamp
list(A).isSorted() bool
list(A).sum() A
list(A).min() A
list(A).max() A
list(A).first() optional(A)
list(A).last() optional(A)
list(A).reverse() list(A)
list(A).distinct() list(A)
list(A).slice(int,int) list(A)
list(list(A)).flatten() list(A)
list(dyn).flatten(int) list(dyn)
lists.range(int) list(int)
list(int).sort() list(int)
list(uint).sort() list(uint)
list(double).sort() list(double)
list(bool).sort() list(bool)
list(duration).sort() list(duration)
list(timestamp).sort() list(timestamp)
list(string).sort() list(string)
list(bytes).sort() list(bytes)
list(A).@sortByAssociatedKeys(list(int)) list(A)
list(A).@sortByAssociatedKeys(list(uint)) list(A)
list(A).@sortByAssociatedKeys(list(double)) list(A)
list(A).@sortByAssociatedKeys(list(bool)) list(A)
list(A).@sortByAssociatedKeys(list(duration)) list(A)
list(A).@sortByAssociatedKeys(list(timestamp)) list(A)
list(A).@sortByAssociatedKeys(list(string)) list(A)
list(A).@sortByAssociatedKeys(list(bytes)) list(A)
quantity(string) kubernetes.Quantity
isQuantity(string) bool
kubernetes.Quantity.isInteger() bool
kubernetes.Quantity.asInteger() int
kubernetes.Quantity.asApproximateFloat() double
kubernetes.Quantity.sign() int
kubernetes.Quantity.add(kubernetes.Quantity|int) kubernetes.Quantity
kubernetes.Quantity.sub(kubernetes.Quantity|int) kubernetes.Quantity
kubernetes.Quantity.isGreaterThan(kubernetes.Quantity) bool
kubernetes.Quantity.isLessThan(kubernetes.Quantity) bool
kubernetes.Quantity.compareTo(kubernetes.Quantity) int
url(string) kubernetes.URL
isURL(string) bool
kubernetes.URL.getScheme() string
kubernetes.URL.getHost() string
kubernetes.URL.getHostname() string
kubernetes.URL.getPort() string
kubernetes.URL.getEscapedPath() string
kubernetes.URL.getQuery() map(string,list(string))
ip(string) net.IP
isIP(string) bool
ip.isCanonical(string) bool
net.IP.family() int
net.IP.isUnspecified() bool
net.IP.isLoopback() bool
net.IP.isLinkLocalMulticast() bool
net.IP.isLinkLocalUnicast() bool
net.IP.isGlobalUnicast() bool
cidr(string) net.CIDR
isCIDR(string) bool
net.CIDR.containsIP(string|net.IP) bool
net.CIDR.containsCIDR(string|net.CIDR) bool
net.CIDR.ip() net.IP
net.CIDR.prefixLength() int
net.CIDR.masked() net.CIDR
sets.contains(list(A),list(A)) bool
sets.equivalent(list(A),list(A)) bool
sets.intersects(list(A),list(A)) bool
optional.of(A) optional(A)
optional.none() optional(A)
optional.ofNonZeroValue(A) optional(A)
optional.unwrap(list(optional(A))) list(A)
list(optional(A)).unwrapOpt() list(A)
optional(A).hasValue() bool
optional(A).value() A
optional(A).orValue(A) A
optional(A).or(optional(A)) optional(A)
jsonpatch.escapeKey(string) string
semver(string) kubernetes.Semver
semver(string,bool) kubernetes.Semver
isSemver(string) bool
isSemver(string,bool) bool
kubernetes.Semver.major() int
kubernetes.Semver.minor() int
kubernetes.Semver.patch() int
kubernetes.Semver.isGreaterThan(kubernetes.Semver) bool
kubernetes.Semver.isLessThan(kubernetes.Semver) bool
kubernetes.Semver.compareTo(kubernetes.Semver) int
format.named(string) optional(kubernetes.NamedFormat)
format.dns1123Label() kubernetes.NamedFormat
format.dns1123Subdomain() kubernetes.NamedFormat
format.dns1035Label() kubernetes.NamedFormat
format.dns1123LabelPrefix() kubernetes.NamedFormat
format.dns1123SubdomainPrefix() kubernetes.NamedFormat
format.dns1035LabelPrefix() kubernetes.NamedFormat
format.qualifiedName() kubernetes.NamedFormat
format.labelValue() kubernetes.NamedFormat
format.uri() kubernetes.NamedFormat
format.uuid() kubernetes.NamedFormat
format.byte() kubernetes.NamedFormat
format.date() kubernetes.NamedFormat
format.datetime() kubernetes.NamedFormat
kubernetes.NamedFormat.validate(string) optional(list(string))
";

/// A type in the table.
#[derive(Debug)]
enum Form {
    /// `A` or `B`.
    Any(usize),
    Dyn,
    Plain(&'static str),
    List(Box<Form>),
    Map(Box<Form>, Box<Form>),
    Optional(Box<Form>),
}

#[derive(Debug)]
struct Signature {
    name: &'static str,
    method: bool,
    /// What each argument may be; a method's receiver comes first.
    takes: Vec<Vec<Form>>,
    gives: Form,
}

static SIGNATURES: LazyLock<Vec<Signature>> = LazyLock::new(|| TABLE.lines().filter_map(signature).collect());

/// The functions that have a name with a dot, and no receiver.
const DOTTED: [&str; 11] = [
    "ip.isCanonical",
    "sets.contains",
    "sets.equivalent",
    "sets.intersects",
    "optional.of",
    "optional.none",
    "optional.ofNonZeroValue",
    "optional.unwrap",
    "lists.range",
    "jsonpatch.escapeKey",
    "format.",
];

fn signature(line: &'static str) -> Option<Signature> {
    let (call, gives) = line.rsplit_once(' ')?;
    let gives = if gives.contains(',') || !call.ends_with(')') {
        line.split_once(") ").map(|(_, g)| g)?
    } else {
        gives
    };
    let call = line.strip_suffix(gives)?.trim_end();
    let dotted = DOTTED.iter().find(|name| call.starts_with(*name));
    // A receiver may itself have parentheses, so the last dot outside of them parts it from the name.
    let dot = if dotted.is_some() { None } else { last_dot(call) };
    let (receiver, rest) = match dot {
        Some(dot) => (call.get(..dot), call.get(dot + 1..)?),
        None => (None, call),
    };
    let (name, args) = rest.strip_suffix(')')?.split_once('(')?;
    let mut takes: Vec<Vec<Form>> = receiver.into_iter().map(alternatives).collect();
    takes.extend(
        parts(args, ',')
            .into_iter()
            .filter(|arg| !arg.is_empty())
            .map(alternatives),
    );
    Some(Signature {
        name,
        method: receiver.is_some(),
        takes,
        gives: form(gives),
    })
}

/// The dot before a method's name: the last one before the last parenthesis that opens outside of all others.
fn last_dot(call: &str) -> Option<usize> {
    let mut depth = 0usize;
    let mut open = None;
    for (i, c) in call.char_indices() {
        match c {
            '(' => {
                if depth == 0 {
                    open = Some(i);
                }
                depth += 1;
            }
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    call.get(..open?)?.rfind('.')
}

/// A text at every `by` that is outside of parentheses.
fn parts(text: &'static str, by: char) -> Vec<&'static str> {
    let (mut out, mut depth, mut from) = (Vec::new(), 0usize, 0);
    for (i, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            c if c == by && depth == 0 => {
                out.extend(text.get(from..i));
                from = i + 1;
            }
            _ => {}
        }
    }
    out.extend(text.get(from..));
    out
}

fn alternatives(text: &'static str) -> Vec<Form> {
    parts(text, '|').into_iter().map(form).collect()
}

fn form(text: &'static str) -> Form {
    let inner = |head: &str| text.strip_prefix(head)?.strip_suffix(')');
    if let Some(of) = inner("list(") {
        return Form::List(Box::new(form(of)));
    }
    if let Some(of) = inner("optional(") {
        return Form::Optional(Box::new(form(of)));
    }
    if let Some(of) = inner("map(")
        && let [key, value] = parts(of, ',')[..]
    {
        return Form::Map(Box::new(form(key)), Box::new(form(value)));
    }
    match text {
        "A" => Form::Any(0),
        "B" => Form::Any(1),
        "dyn" => Form::Dyn,
        plain => Form::Plain(plain),
    }
}

/// What `A` and `B` stand for in one call.
type Bound<'s> = [Option<Type<'s>>; 2];

/// What a call gives, and what a call is known to give nothing: `None` when no overload fits.
pub fn call<'s>(name: &str, method: bool, args: &[Type<'s>]) -> Option<Type<'s>> {
    let mut known = false;
    let mut given: Option<Type<'s>> = None;
    for signature in SIGNATURES.iter().filter(|s| s.name == name && s.method == method) {
        known = true;
        let Some(made) = signature.fits(args) else {
            continue;
        };
        given = Some(match given {
            None => made,
            Some(other) => other.join(&made).unwrap_or(Type::DYN),
        });
    }
    // What the table does not know is seen when it runs.
    if known { given } else { Some(Type::DYN) }
}

impl Signature {
    fn fits<'s>(&self, args: &[Type<'s>]) -> Option<Type<'s>> {
        if args.len() != self.takes.len() {
            return None;
        }
        let mut bound: Bound<'s> = [None, None];
        for (arg, alternatives) in args.iter().zip(&self.takes) {
            let mut fitting = alternatives.iter();
            if !fitting.any(|form| matches(form, arg, &mut bound)) {
                return None;
            }
        }
        Some(made(&self.gives, &bound))
    }
}

fn matches<'s>(form: &Form, arg: &Type<'s>, bound: &mut Bound<'s>) -> bool {
    match (form, arg) {
        (_, Type::Dyn(_)) | (Form::Dyn, _) => true,
        (Form::Any(i), arg) => {
            let Some(slot) = bound.get_mut(*i) else {
                return false;
            };
            match slot.as_ref().map(|before| before.join(arg)) {
                None => *slot = Some(arg.clone()),
                Some(Some(both)) => *slot = Some(both),
                Some(None) => return false,
            }
            true
        }
        (Form::List(of), Type::List(items, _)) => matches(of, items, bound),
        (Form::Optional(of), Type::Optional(inner)) => matches(of, inner, bound),
        (Form::Map(key, of), Type::Map(k, v, _)) => matches(key, k, bound) && matches(of, v, bound),
        (Form::Plain(name), arg) => arg.to_string() == *name,
        _ => false,
    }
}

fn made<'s>(form: &Form, bound: &Bound<'s>) -> Type<'s> {
    match form {
        Form::Any(i) => bound.get(*i).cloned().flatten().unwrap_or(Type::DYN),
        Form::Dyn => Type::DYN,
        Form::List(of) => Type::List(Rc::new(made(of, bound)), UNBOUNDED),
        Form::Optional(of) => Type::Optional(Rc::new(made(of, bound))),
        Form::Map(key, of) => Type::Map(Rc::new(made(key, bound)), Rc::new(made(of, bound)), UNBOUNDED),
        Form::Plain(name) => match *name {
            "bool" => Type::Bool,
            "int" => Type::Int,
            "uint" => Type::Uint,
            "double" => Type::Double,
            "string" => Type::TEXT,
            "bytes" => Type::Bytes(UNBOUNDED),
            "timestamp" => Type::Time,
            "duration" => Type::Duration,
            "type" => Type::Type,
            own => Type::Own(own),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_is_read() {
        assert_eq!(
            SIGNATURES.len(),
            TABLE.lines().filter(|line| !line.is_empty()).count()
        );
        let text = |gives: Option<Type<'_>>| gives.map(|gives| gives.to_string());
        assert_eq!(
            text(call("split", true, &[Type::TEXT, Type::TEXT])).unwrap(),
            "list(string)"
        );
        assert_eq!(text(call("split", true, &[Type::TEXT, Type::Int])), None);
        assert_eq!(text(call("getHours", true, &[Type::Duration])).unwrap(), "int");
        assert_eq!(text(call("getHours", true, &[Type::Int])), None);
        let list = Type::List(Rc::new(Type::Int), 5);
        assert_eq!(
            text(call("sum", true, std::slice::from_ref(&list))).unwrap(),
            "int"
        );
        assert_eq!(
            text(call("sets.contains", false, &[list.clone(), list])).unwrap(),
            "bool"
        );
        assert_eq!(
            text(call("getQuery", true, &[Type::Own("kubernetes.URL")])).unwrap(),
            "map(string, list(string))"
        );
        assert_eq!(text(call("unheard", true, &[Type::Int])).unwrap(), "dyn");
    }
}
