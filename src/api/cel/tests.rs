use serde_json::{Value, json};

use super::*;

fn eval(source: &str, object: &Value) -> Result<String, String> {
    let program = Program::compile(source, &["self"])?;
    let scope = Scope::new().with("self", Val::json(object, None));
    let made = program.eval(&scope, &mut Budget::new(1_000_000))?;
    Ok(strings::show(&made))
}

#[test]
fn expressions_mean_what_the_language_says() {
    let object = json!({"n": 3, "x": 1.5, "name": "web-1", "list": [1, 2, 3], "map": {"a": 1, "b-c": 2}, "null": null,
        "items": [{"k": "a", "v": 1}, {"k": "b", "v": 2}]});
    for (source, wanted) in [
        ("1 + 2 * 3 == 7 && !(2 > 3)", "true"),
        ("self.n in self.list", "true"),
        ("self.list.map(x, x * 2)", "[2, 4, 6]"),
        ("self.list.map(x, x > 1, x * 2)", "[4, 6]"),
        ("self.list.filter(x, x % 2 == 1).size()", "2"),
        (
            "self.items.all(i, i.v > 0) && self.items.exists_one(i, i.k == 'a')",
            "true",
        ),
        ("self.map.all(k, self.map[k] > 0)", "true"),
        ("self.map.exists(k, v, k == 'b-c' && v == 2)", "true"),
        ("has(self.map.a) && !has(self.map.z)", "true"),
        ("self.map.b__dash__c", "2"),
        ("self.name.matches('^web-[0-9]+$')", "true"),
        ("self.name.split('-')[1] + '!'", "1!"),
        ("self.n > 2 ? 'big' : 'small'", "big"),
        ("false && self.nothing == 1", "false"),
        ("self.nothing == 1 || true", "true"),
        ("self.?nothing.orValue(7)", "7"),
        ("self.map[?'a'].optMap(v, v + 1).value()", "2"),
        ("duration('1h30m') > duration('89m')", "true"),
        ("timestamp('2024-02-29T12:00:00Z').getDayOfWeek()", "4"),
        ("quantity('1Gi').isGreaterThan(quantity('500M'))", "true"),
        (
            "cidr('10.0.0.0/8').containsIP('10.1.2.3') && !cidr('10.0.0.0/8').containsIP(ip('11.0.0.1'))",
            "true",
        ),
        ("url('https://a.b:8/p?x=1').getPort()", "8"),
        ("sets.contains(self.list, [1, 3])", "true"),
        (
            "'%s has %d, %.2f'.format([self.name, self.n, self.x])",
            "web-1 has 3, 1.50",
        ),
        ("cel.bind(t, self.n + 1, t * t)", "16"),
        (
            "self.list.sum() == 6 && self.list.max() == 3 && self.list.isSorted()",
            "true",
        ),
        ("r'\\d' + \"\\u0041\" + '''x'y'''", "\\dAx'y"),
        ("type(self.x) == double && type(self.n) == int", "true"),
        ("-9223372036854775808 < 0 && 0x10 == 16 && 2u + 1u == 3u", "true"),
        ("self.null == null", "true"),
        (
            "semver('1.2.3-rc.1').isLessThan(semver('1.2.3')) && semver('v01.2', true).compareTo(semver('1.2.0')) == 0",
            "true",
        ),
        (
            "isSemver('v1') || isSemver('1.02.3') || isSemver('1.0.0-a..b')",
            "false",
        ),
        (
            "semver('1.2.3-2').isLessThan(semver('1.2.3-10')) && semver('1.2.3-10').isLessThan(semver('1.2.3-a'))",
            "true",
        ),
        (
            "format.dns1123Label().validate('a-b').hasValue() || format.named('nothing').hasValue()",
            "false",
        ),
        (
            "format.named('uuid').value().validate('x').value()",
            "[does not match the UUID format]",
        ),
        (
            "self.list == [1, 2, 3] && self.items[0] == {'k': 'a', 'v': 1}",
            "true",
        ),
        ("[1, 2].transformList(i, v, v + i)", "[1, 3]"),
    ] {
        assert_eq!(eval(source, &object), Ok(wanted.to_owned()), "{source}");
    }
}

#[test]
fn what_cannot_be_computed_is_an_error() {
    let object = json!({"n": 3});
    for (source, wanted) in [
        ("self.nothing == 1", "no such key: nothing"),
        ("1 / 0 == 1", "division by zero"),
        ("9223372036854775807 + 1 == 0", "integer overflow"),
        ("self.n + 'a' == 'b'", "no such overload"),
        ("[1][5] == 1", "index out of bounds: 5"),
        ("{'a': 1}['b'] == 1", "no such key: b"),
    ] {
        assert_eq!(eval(source, &object), Err(wanted.to_owned()), "{source}");
    }
}

#[test]
fn mistakes_are_found_before_anything_runs() {
    for (source, wanted) in [
        (
            "other == 1",
            "ERROR: <input>:1:1: undeclared reference to 'other' (in container '')\n | other == 1\n | ^",
        ),
        (
            "self.\n  foo( == 1",
            "ERROR: <input>:2:8: Syntax error: mismatched input '=='\n |   foo( == 1\n | .......^",
        ),
        (
            "self.foo()",
            "ERROR: <input>:1:5: undeclared reference to 'foo' (in container '')\n | self.foo()\n | ....^",
        ),
    ] {
        assert_eq!(check(source, &["self"]), Err(wanted.to_owned()), "{source}");
    }
    for source in ["", "1 +", "'abc", "has(self)", "[1, 2", "\"\\q\"", "a.b(", "1..2"] {
        assert!(check(source, &["self", "a"]).is_err(), "{source}");
    }
}

#[test]
fn nothing_runs_or_nests_without_end() {
    let many: Vec<i64> = (0..200).collect();
    let object = json!({"list": many});
    let source = "self.list.all(a, self.list.all(b, self.list.all(c, a + b + c >= 0)))";
    assert_eq!(eval(source, &object), Err(EXCEEDED.to_owned()));
    let source = "self.list.all(a, self == self && self.list[0].n == 0)";
    let large: Vec<Value> = (0..20_000).map(|n| json!({"n": n})).collect();
    assert!(
        eval(source, &json!({"list": large})).is_err(),
        "comparing costs what there is to compare"
    );
    let deep = "(".repeat(5000) + "1" + &")".repeat(5000);
    assert!(check(&deep, &[]).is_err());
    assert!(check(&"!".repeat(5000), &[]).is_err());
    assert!(check(&"1 + ".repeat(5000), &[]).is_err());
}

#[test]
fn schemas_say_how_values_are_read() {
    let schema = json!({"type": "object", "properties": {
        "at": {"type": "string", "format": "date-time"}, "share": {"type": "number"},
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}}});
    let object = json!({"at": "2024-01-01T00:00:00Z", "share": 1, "set": ["a", "b"]});
    let program = Program::compile(
        "self.at < timestamp('2025-01-01T00:00:00Z') && self.share == 1.0 && self.set == ['b', 'a']",
        &["self"],
    )
    .unwrap();
    let scope = Scope::new().with("self", Val::json(&object, Some(&schema)));
    assert!(matches!(
        program.eval(&scope, &mut Budget::new(1000)),
        Ok(Val::Bool(true))
    ));
}

/// What is said of a `self` of that schema before it runs: its type and cost, or what is wrong.
fn judged(source: &str, schema: &Value) -> String {
    let program = Program::compile(source, &["self"]).unwrap();
    match program.judge(source, &[("self", Type::of(schema))]) {
        Ok(judged) => format!("{} {}", judged.kind, judged.cost.0),
        Err(why) => why.lines().next().unwrap_or_default().to_owned(),
    }
}

#[test]
fn types_are_checked_before_anything_runs() {
    let schema = json!({"type": "object", "properties": {
        "n": {"type": "integer"}, "s": {"type": "string", "maxLength": 10}, "d": {"type": "number"},
        "set": {"type": "array", "maxItems": 5, "items": {"type": "string", "maxLength": 5}},
        "map": {"type": "object", "additionalProperties": {"type": "integer"}},
        "any": {"x-kubernetes-int-or-string": true}, "at": {"type": "string", "format": "date-time"},
        "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}});
    let wrong = [
        (
            "self.set.all(s, s != '') && self.shares > 1.0",
            "ERROR: <input>:1:33: undefined field 'shares'",
        ),
        (
            "self.n + self.s",
            "ERROR: <input>:1:8: found no matching overload for '_+_' applied to '(int, string)'",
        ),
        (
            "self.n == self.s",
            "ERROR: <input>:1:8: found no matching overload for '_==_' applied to '(int, string)'",
        ),
        (
            "self.n == self.d",
            "ERROR: <input>:1:8: found no matching overload for '_==_' applied to '(int, double)'",
        ),
        (
            "self.n && true",
            "ERROR: <input>:1:8: found no matching overload for '_&&_' applied to '(int, bool)'",
        ),
        (
            "!self.n",
            "ERROR: <input>:1:1: found no matching overload for '!_' applied to '(int)'",
        ),
        (
            "self.s.x",
            "ERROR: <input>:1:7: type 'string' does not support field selection",
        ),
        (
            "self.set.map(s, s.size() + 's')",
            "ERROR: <input>:1:26: found no matching overload for '_+_' applied to '(int, string)'",
        ),
        (
            "self.set['a']",
            "ERROR: <input>:1:9: found no matching overload for '_[_]' applied to '(list(string), string)'",
        ),
        (
            "self.n.all(x, true)",
            "ERROR: <input>:1:5: expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)",
        ),
        (
            "[1, 'a']",
            "ERROR: <input>:1:5: expected type 'int' but found 'string'",
        ),
        (
            "1 in self.set",
            "ERROR: <input>:1:3: found no matching overload for '@in' applied to '(int, list(string))'",
        ),
        (
            "self.s == null",
            "ERROR: <input>:1:8: found no matching overload for '_==_' applied to '(string, null)'",
        ),
    ];
    for (source, why) in wrong {
        assert_eq!(judged(source, &schema), why, "{source}");
    }
    let fine = [
        "self.n < self.d",
        "self.any == 5 || self.any == 'five'",
        "self.open.what.ever == 1",
        "self.map.all(k, self.map[k] > 1 && k.startsWith('a'))",
        "self.set.exists_one(s, s == 'a') ? self.n > 1 : has(self.s)",
        "self.at > timestamp('2024-01-01T00:00:00Z') - duration('1h')",
        "self.set.map(s, s.upperAscii()).join(',').contains('A')",
        "quantity(self.s).isLessThan(quantity('1')) && self.?s.orValue('x') == 'x'",
        "cel.bind(a, self.set, a.size() > 1)",
        "type(self.n) == int && [1, 2].sum() == 3 && self.set.isSorted()",
    ];
    for source in fine {
        let found = judged(source, &schema);
        assert!(found.starts_with("bool "), "{source}: {found}");
    }
}

#[test]
fn costs_are_estimated_by_the_bounds_of_the_schema() {
    let schema = json!({"type": "object", "properties": {
        "few": {"type": "array", "maxItems": 5, "items": {"type": "integer"}},
        "many": {"type": "array", "items": {"type": "string"}}}});
    // Two for the range, and for each item: the loop's condition, the sum so far, and the comparison.
    assert_eq!(judged("self.few.all(x, x > 1)", &schema), "bool 28");
    let many = judged("self.many.all(x, self.many.exists(y, x == y))", &schema);
    let cost: u64 = many.trim_start_matches("bool ").parse().unwrap();
    assert!(cost > 100_000_000, "{many}");
}

#[test]
fn lists_are_cut_sorted_and_flattened() {
    let object = json!({"n": [3, 1, 2, 1], "things": [{"name": "b", "size": 1}, {"name": "a", "size": 2}],
        "deep": [1, [2, [3, [4]]]], "none": []});
    let all = [
        "self.n.sort() == [1, 1, 2, 3]",
        "self.n.distinct() == [3, 1, 2]",
        "self.n.reverse() == [1, 2, 1, 3]",
        "self.n.slice(1, 3) == [1, 2]",
        "self.n.first().orValue(0) == 3 && self.n.last().value() == 1",
        "!self.none.first().hasValue()",
        "lists.range(4) == [0, 1, 2, 3]",
        "self.deep.flatten() == [1, 2, [3, [4]]]",
        "self.deep.flatten(2) == [1, 2, 3, [4]]",
        "self.things.sortBy(t, t.name).map(t, t.size) == [2, 1]",
        "self.things.sortBy(t, -t.size).map(t, t.name) == ['a', 'b']",
        "[self.things, self.things].map(l, l.sortBy(t, t.name)[0].name) == ['a', 'a']",
        "self.none.sort() == []",
        "optional.unwrap([optional.of(1), optional.none()]) == [1]",
        "[optional.of(1), optional.none()].unwrapOpt() == [1]",
    ];
    for source in all {
        assert_eq!(eval(source, &object).as_deref(), Ok("true"), "{source}");
    }
    let wrong = [
        (
            "self.n.slice(-1, 2)",
            "cannot slice(-1, 2), negative indexes not supported",
        ),
        (
            "self.n.slice(2, 1)",
            "cannot slice(2, 1), start index must be less than or equal to end index",
        ),
        ("self.n.slice(0, 5)", "cannot slice(0, 5), list is length 4"),
        ("self.deep.flatten(-1)", "level must be non-negative"),
        ("self.things.sort()", "list elements must be comparable"),
        (
            "[dyn(1), dyn('a')].sort()",
            "list elements must have the same type",
        ),
        (
            "lists.range(100000000)",
            "operation cancelled: actual cost limit exceeded",
        ),
    ];
    for (source, why) in wrong {
        assert_eq!(eval(source, &object).unwrap_err(), why, "{source}");
    }
    assert!(eval("'a'.sortBy(x, x)", &object).is_err());
}

#[test]
fn lists_that_are_made_are_paid_for() {
    let list = json!({"type": "array", "maxItems": 5, "items": {"type": "integer"}});
    let texts = json!({"type": "array", "maxItems": 5, "items": {"type": "string", "maxLength": 10}});
    let lists = json!({"type": "array", "maxItems": 5, "items": list});
    let schema = json!({"type": "object", "properties": {"n": list, "s": texts, "l": lists}});
    // Two for the range, eleven for the call, and the work.
    let table = [
        ("self.n.reverse()", "list(int) 18"),
        ("self.n.slice(1, 3)", "list(int) 15"),
        ("self.l.flatten()", "list(int) 18"),
        ("self.n.distinct()", "list(int) 63"),
        ("self.n.sort()", "list(int) 63"),
        ("self.s.sort()", "list(string) 66"),
        ("lists.range(7)", "list(int) 18"),
        ("self.n.first()", "optional_type(int) 3"),
        ("self.n.max()", "int 7"),
        ("self.s.max()", "string 27"),
    ];
    for (source, expected) in table {
        assert_eq!(judged(source, &schema), expected, "{source}");
    }
    assert!(judged("self.l.sort()", &schema).contains("found no matching overload for 'sort'"));
}

mod strangers {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Whatever somebody writes, it compiles or is refused, and runs or fails: nothing panics.
        #[test]
        fn anything_can_be_said(source in "[ -~\n\u{e9}]{0,60}") {
            let object = json!({"a": [1, "x", null], "b": {"c": 1.5}});
            let _ = eval(&source, &object);
        }

        /// The same, of words that the language knows.
        #[test]
        fn words_in_any_order(words in proptest::collection::vec(0usize..28, 0..24)) {
            const WORDS: [&str; 28] = [
                "self", ".a", ".b", "[0]", "[", "]", "(", ")", "{", "}", ":", ",", "+", "-", "1", "2u", "1.5", "'x'",
                "==", "&&", "||", "!", "?", "in", ".map(x, x)", ".all(x, x > 1)", "has(self.a)", ".size()",
            ];
            let source: String = words.iter().filter_map(|w| WORDS.get(*w)).copied().collect();
            let _ = eval(&source, &json!({"a": [1], "b": {"c": 1}}));
        }
    }
}
