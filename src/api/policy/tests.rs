use super::*;

fn ask<'a>(verb: &'a str, group: &'a str, path: &'a str, namespace: &'a str, name: &'a str) -> Ask<'a> {
    let (resource, subresource) = path.split_once('/').unwrap_or((path, ""));
    Ask::Resource {
        verb,
        group,
        resource,
        subresource,
        namespace,
        name,
    }
}

#[test]
fn rules_match_verbs_groups_resources_and_names() {
    let named = Rule {
        resource_names: owned(&["a"]),
        ..Rule::resources(&["get"], &[""], &["secrets"])
    };
    for (rule, asked, expected) in [
        (
            Rule::resources(&["get"], &[""], &["pods"]),
            ask("get", "", "pods", "n", "x"),
            true,
        ),
        (
            Rule::resources(&["get"], &[""], &["pods"]),
            ask("list", "", "pods", "n", ""),
            false,
        ),
        (
            Rule::resources(&["*"], &["*"], &["*"]),
            ask("bind", "x", "y/z", "", ""),
            true,
        ),
        (
            Rule::resources(&["get"], &["apps"], &["pods"]),
            ask("get", "", "pods", "", ""),
            false,
        ),
        (
            Rule::resources(&["get"], &[""], &["pods"]),
            ask("get", "", "pods/log", "", ""),
            false,
        ),
        (
            Rule::resources(&["get"], &[""], &["pods/log"]),
            ask("get", "", "pods/log", "", ""),
            true,
        ),
        (
            Rule::resources(&["get"], &[""], &["pods/log"]),
            ask("get", "", "pods", "", ""),
            false,
        ),
        (
            Rule::resources(&["get"], &["*"], &["*/scale"]),
            ask("get", "apps", "deployments/scale", "", ""),
            true,
        ),
        (
            Rule::resources(&["get"], &["*"], &["pods/*"]),
            ask("get", "", "pods/log", "", ""),
            false,
        ),
        (named.clone(), ask("get", "", "secrets", "n", "a"), true),
        (named.clone(), ask("get", "", "secrets", "n", "b"), false),
        (named, ask("get", "", "secrets", "n", ""), false),
        (
            Rule::urls(&["get"], &["/healthz"]),
            Ask::Path {
                verb: "get",
                path: "/healthz",
            },
            true,
        ),
        (
            Rule::urls(&["get"], &["/apis/*"]),
            Ask::Path {
                verb: "get",
                path: "/apis/apps",
            },
            true,
        ),
        (
            Rule::urls(&["get"], &["/apis/*"]),
            Ask::Path {
                verb: "get",
                path: "/api",
            },
            false,
        ),
        (
            Rule::urls(&["get"], &["*"]),
            Ask::Path {
                verb: "post",
                path: "/",
            },
            false,
        ),
    ] {
        assert_eq!(rule.allows(&asked), expected, "{rule} {asked:?}");
    }
}

struct Fixed(Vec<(&'static str, &'static str, Rule)>, Vec<Binding>);

impl Roles for Fixed {
    fn rules(&self, namespace: &str, name: &str) -> Option<Arc<[Rule]>> {
        let found = self.0.iter().find(|(ns, n, _)| *ns == namespace && *n == name)?;
        Some(Arc::from([found.2.clone()]))
    }

    fn bindings(&self, namespace: &str) -> Vec<Arc<Binding>> {
        self.1
            .iter()
            .filter(|b| b.namespace == namespace)
            .cloned()
            .map(Arc::new)
            .collect()
    }
}

fn bound(namespace: &str, subject: (&str, &str), role: (&str, &str)) -> Binding {
    Binding {
        namespace: namespace.into(),
        name: "b".into(),
        subjects: vec![Subject {
            kind: subject.0.into(),
            name: subject.1.into(),
            namespace: String::new(),
        }],
        role_kind: role.0.into(),
        role_name: role.1.into(),
    }
}

#[test]
fn bindings_reach_as_far_as_their_namespace() {
    let roles = Fixed(
        vec![
            ("", "view", Rule::resources(&["get"], &[""], &["pods"])),
            ("a", "edit", Rule::resources(&["update"], &[""], &["pods"])),
        ],
        vec![
            bound("", ("Group", "staff"), ("ClusterRole", "view")),
            bound("a", ("ServiceAccount", "bot"), ("Role", "edit")),
            bound("b", ("User", "eve"), ("ClusterRole", "view")),
        ],
    );
    let staff = User::new("joe", &["staff"]);
    let bot = User::new("system:serviceaccount:a:bot", &[]);
    let eve = User::new("eve", &[]);
    assert_eq!(
        allowed(&staff, &ask("get", "", "pods", "b", "x"), &roles).unwrap(),
        "RBAC: allowed by ClusterRoleBinding \"b\" of ClusterRole \"view\" to Group \"staff\""
    );
    assert_eq!(
        allowed(&bot, &ask("update", "", "pods", "a", "x"), &roles).unwrap(),
        "RBAC: allowed by RoleBinding \"b/a\" of Role \"edit\" to ServiceAccount \"bot/a\""
    );
    assert!(allowed(&bot, &ask("update", "", "pods", "b", "x"), &roles).is_none());
    assert!(allowed(&eve, &ask("get", "", "pods", "b", "x"), &roles).is_some());
    assert!(allowed(&eve, &ask("get", "", "pods", "a", "x"), &roles).is_none());
    assert!(allowed(&eve, &ask("get", "", "pods", "", ""), &roles).is_none());
    assert_eq!(rules_for(&bot, "a", &roles).len(), 1);
}

#[test]
fn what_would_be_granted_beyond_what_is_held() {
    let held = [Rule::resources(&["get", "list"], &[""], &["pods", "*/log"])];
    let wanted = [Rule::resources(&["get", "watch"], &[""], &["pods", "pods/log"])];
    let missing: Vec<String> = missing(&held, &wanted).iter().map(ToString::to_string).collect();
    assert_eq!(
        missing,
        [
            "{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"watch\"]}",
            "{APIGroups:[\"\"], Resources:[\"pods/log\"], Verbs:[\"watch\"]}"
        ]
    );
    let all = [
        Rule::resources(&["*"], &["*"], &["*"]),
        Rule::urls(&["*"], &["*"]),
    ];
    assert!(super::missing(&all, &all).is_empty());
    assert!(!super::missing(&held, &all).is_empty());
}

#[test]
fn refusals() {
    assert_eq!(
        refusal("joe", &ask("get", "apps", "deployments/scale", "n", "x")),
        "User \"joe\" cannot get resource \"deployments/scale\" in API group \"apps\" in the namespace \"n\""
    );
    assert_eq!(
        refusal(
            "joe",
            &Ask::Path {
                verb: "get",
                path: "/x"
            }
        ),
        "User \"joe\" cannot get path \"/x\""
    );
}

#[test]
fn aggregation_gathers_rules_by_label() {
    let role = |json: Value| serde_json::from_value::<ClusterRole>(json).unwrap();
    let rule = serde_json::json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]);
    let admin = role(serde_json::json!({"metadata": {"name": "admin"},
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"to": "admin"}}]}, "rules": []}));
    let others = [
        role(serde_json::json!({"metadata": {"name": "b", "labels": {"to": "admin"}}, "rules": rule})),
        role(serde_json::json!({"metadata": {"name": "a", "labels": {"to": "admin"}}, "rules": rule})),
        role(serde_json::json!({"metadata": {"name": "c"}, "rules": rule})),
    ];
    assert_eq!(aggregated_rules(&admin, &others).unwrap().len(), 1);
    assert!(aggregated_rules(&others[0], &others).is_none());
}
