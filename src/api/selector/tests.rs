use super::*;

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

#[test]
fn text_selectors_match_as_documented() {
    let web = labels(&[("app", "web"), ("tier", "front"), ("n", "5")]);
    for (text, expected) in [
        ("", true),
        ("app=web", true),
        ("app==web", true),
        ("app!=web", false),
        ("nothing!=web", true),
        ("app=web,tier=back", false),
        ("app in (web, api)", true),
        ("app notin (web)", false),
        ("other notin (web)", true),
        ("app", true),
        ("!app", false),
        ("!other , app", true),
        ("n>4", true),
        ("n<5", false),
        ("app=", false),
        ("other in ()", false),
        ("in=web", false),
    ] {
        assert_eq!(
            LabelSelector::parse(text).unwrap().matches(&web),
            expected,
            "{text}"
        );
    }
}

#[test]
fn text_selectors_that_are_refused() {
    for (text, why) in [
        (
            "a b",
            "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt",
        ),
        ("=a", "found '=', expected: !, identifier, or 'end of string'"),
        ("a=b,", "found '', expected: identifier after ','"),
        (",a", "found ',', expected: !, identifier, or 'end of string'"),
        (
            "a in (=)",
            "unable to parse requirement: found '=', expected: ',', ')' or identifier",
        ),
        (
            "a in (b,=)",
            "unable to parse requirement: found '=', expected: ',', or identifier",
        ),
        ("a in b", "unable to parse requirement: found 'b' expected: '('"),
        (
            "a in (b",
            "unable to parse requirement: found '', expected: ',' or ')'",
        ),
        ("a=b c", "found 'c', expected: ',' or 'end of string'"),
        (
            "a>x",
            "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer",
        ),
    ] {
        assert_eq!(LabelSelector::parse(text).unwrap_err(), why, "{text}");
    }
    assert!(
        LabelSelector::parse("-a=b")
            .unwrap_err()
            .contains("name part must consist of")
    );
    assert!(
        LabelSelector::parse("a=_b")
            .unwrap_err()
            .contains("values[0][a]: Invalid value: \"_b\": a valid label")
    );
}

#[test]
fn canonical_text_is_sorted_by_key() {
    let text = LabelSelector::parse("z in (b,a),a=1,!m,q!=2")
        .unwrap()
        .to_string();
    assert_eq!(text, "a=1,!m,q!=2,z in (a,b)");
}

#[test]
fn selector_objects() {
    let selector = serde_json::json!({
        "matchLabels": {"app": "web"},
        "matchExpressions": [{"key": "tier", "operator": "In", "values": ["a", "b"]}, {"key": "old", "operator": "DoesNotExist"}]
    });
    assert!(LabelSelector::from_json(&selector).matches(&labels(&[("app", "web"), ("tier", "a")])));
    assert!(!LabelSelector::from_json(&selector).matches(&labels(&[
        ("app", "web"),
        ("tier", "a"),
        ("old", "")
    ])));
    assert_eq!(format(&selector), "app=web,!old,tier in (a,b)");
    assert!(!LabelSelector::from_json(&Value::Null).matches(&labels(&[])));
    assert!(LabelSelector::from_json(&serde_json::json!({})).matches(&labels(&[])));
    let typed: meta::LabelSelector = serde_json::from_value(selector.clone()).unwrap();
    assert_eq!(
        LabelSelector::from_typed(Some(&typed)),
        LabelSelector::from_json(&selector)
    );
}

#[test]
fn selector_objects_that_are_refused() {
    let object = serde_json::json!({"spec": {"selector": {
        "matchLabels": {"a": "b c"},
        "matchExpressions": [
            {"key": "k", "operator": "In"},
            {"key": "k", "operator": "Exists", "values": ["x"]},
            {"key": "k", "operator": "Like"},
        ],
    }}});
    let mut errors = Vec::new();
    validate(&Field::at(&object, "spec.selector"), &mut errors);
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert!(texts[0].starts_with("spec.selector.matchLabels: Invalid value: \"b c\": a valid label must be"));
    assert_eq!(
        texts[1..],
        [
            "spec.selector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
            "spec.selector.matchExpressions[1].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            "spec.selector.matchExpressions[2].operator: Invalid value: \"Like\": not a valid selector operator",
        ]
    );
}

#[test]
fn field_selectors() {
    let fields = vec![
        ("spec.nodeName", "n1".to_owned()),
        ("status.phase", "Running".to_owned()),
    ];
    for (text, expected) in [
        ("", true),
        ("spec.nodeName=n1", true),
        ("spec.nodeName==n1,status.phase!=Running", false),
        ("spec.host=", true),
        ("spec.nodeName!=", true),
    ] {
        assert_eq!(
            FieldSelector::parse(text).unwrap().matches(&fields),
            expected,
            "{text}"
        );
    }
    assert_eq!(
        FieldSelector::parse("a=b\\,c\\=d").unwrap().terms[0].value,
        "b,c=d"
    );
    assert_eq!(
        FieldSelector::parse("nothing").unwrap_err(),
        "invalid selector: 'nothing'; can't understand 'nothing'"
    );
}

#[test]
fn field_selectors_know_the_kind() {
    let pod = crate::kinds::find("", "v1", "pods").unwrap();
    let selector = FieldSelector::parse("spec.host=a")
        .unwrap()
        .for_kind(pod)
        .unwrap();
    assert_eq!(selector.terms[0].field, "spec.nodeName");
    let bad = FieldSelector::parse("spec.foo=a").unwrap();
    assert_eq!(
        bad.clone().for_kind(pod).unwrap_err(),
        "field label not supported: spec.foo"
    );
    let config_map = crate::kinds::find("", "v1", "configmaps").unwrap();
    assert_eq!(
        bad.for_kind(config_map).unwrap_err(),
        "\"spec.foo\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
    );
}
