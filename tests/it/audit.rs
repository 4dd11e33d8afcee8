//! The audit log beneath the API: that it shows where it was tampered with, that it keeps up with many who change things
//! at once, and that it is only ever added to.

use multicredit_domain::{Actor, OrganizationId, OrganizationStatus};
use multicredit_store::{AuditFilter, AuditLine, Author, MemberRole, OrganizationUpdate, PageRequest, Scope, Store};
use sea_orm::ConnectionTrait;
use tests::fixtures::{ai, organization, purchase, request, store};
use tests::{Engine, TestDb, both_engines};

const HASHES: &str = "every line of the audit log has the hash of what it says and of the line before";
const DENSE: &str = "lines of the audit log are dense from 1";
const ENDS: &str = "every chain of the audit log ends where it was left";

/// The columns of a line but those that say where it stands.
const COLUMNS: &str = "created_at, operation, subject, api_key_id, api_key_name, api_key_prefix, actor, request_id, \
                       before, after, hash";

/// What may be done to the log by whoever can, and what gives it away. `$chain` is one of five lines.
const FAULTS: &[(&str, &str, &[&str])] = &[
    ("an edited operation", "UPDATE audit_log SET operation = 'putMember' WHERE sequence = 2 AND $chain", &[HASHES]),
    ("an edited actor", "UPDATE audit_log SET actor = 'somebody else' WHERE sequence = 5 AND $chain", &[HASHES]),
    (
        "an edited state",
        "UPDATE audit_log SET after = '{\"role\": \"owner\"}' WHERE sequence = 3 AND $chain",
        &[HASHES],
    ),
    ("a state taken out", "UPDATE audit_log SET before = NULL WHERE before IS NOT NULL AND $chain", &[HASHES]),
    (
        "an edited instant",
        "UPDATE audit_log SET created_at = '2020-01-01T00:00:00+00:00' WHERE sequence = 1 AND $chain",
        &[HASHES],
    ),
    (
        "a line of another organization",
        "UPDATE audit_log SET organization_id = $nobody, sequence = 90 WHERE sequence = 5 AND $chain",
        &[HASHES, DENSE, ENDS],
    ),
    (
        "an edited hash",
        "UPDATE audit_log SET hash = (SELECT hash FROM audit_chains WHERE $chain) WHERE sequence = 4 AND $chain",
        &[HASHES],
    ),
    ("a first line taken out", "DELETE FROM audit_log WHERE sequence = 1 AND $chain", &[DENSE, HASHES]),
    ("a line taken out of the middle", "DELETE FROM audit_log WHERE sequence = 3 AND $chain", &[DENSE, HASHES]),
    (
        "a line taken out of the middle and the rest renumbered",
        "DELETE FROM audit_log WHERE sequence = 3 AND $chain; \
         UPDATE audit_log SET sequence = sequence - 1 WHERE sequence = 4 AND $chain; \
         UPDATE audit_log SET sequence = sequence - 1 WHERE sequence = 5 AND $chain",
        &[HASHES, ENDS],
    ),
    ("a tail cut off", "DELETE FROM audit_log WHERE sequence >= 4 AND $chain", &[ENDS]),
    ("everything cut off", "DELETE FROM audit_log WHERE $chain", &[ENDS]),
    (
        "a line put in at the end",
        "INSERT INTO audit_log (organization_id, sequence, $columns) \
         SELECT organization_id, 6, $columns FROM audit_log WHERE sequence = 5 AND $chain",
        &[HASHES, ENDS],
    ),
    (
        "a line put in in the middle",
        "UPDATE audit_log SET sequence = 6 WHERE sequence = 5 AND $chain; \
         INSERT INTO audit_log (organization_id, sequence, $columns) \
         SELECT organization_id, 5, $columns FROM audit_log WHERE sequence = 4 AND $chain",
        &[HASHES, ENDS],
    ),
    (
        "two lines that changed places",
        "UPDATE audit_log SET sequence = 99 WHERE sequence = 3 AND $chain; \
         UPDATE audit_log SET sequence = 3 WHERE sequence = 4 AND $chain; \
         UPDATE audit_log SET sequence = 4 WHERE sequence = 99 AND $chain",
        &[HASHES],
    ),
    ("an end that was moved", "UPDATE audit_chains SET sequence = 7 WHERE $chain", &[ENDS]),
    (
        "a tail cut off and the end moved to it",
        "DELETE FROM audit_log WHERE sequence = 5 AND $chain; UPDATE audit_chains SET sequence = 4 WHERE $chain",
        &[ENDS],
    ),
];

/// Five lines of an organization, and some of none.
async fn history(store: &Store) -> OrganizationId {
    let store = store.acting_for(Author { actor: Some(Actor::new("a test").unwrap()), ..Author::default() });
    let id = organization(&store, "audited", ai(10)).await;
    organization(&store, "beside", ai(10)).await;
    for role in [MemberRole::Member, MemberRole::Billing] {
        store.put_member(id, "u", role).await.unwrap();
    }
    store.delete_member(id, "u").await.unwrap();
    store.create_api_key(key(7)).await.unwrap();
    id
}

fn key(seed: u8) -> multicredit_store::NewApiKey {
    multicredit_store::NewApiKey {
        name: format!("key {seed}"),
        digest: [seed; 32],
        prefix: "mc_".to_owned(),
        scopes: vec![Scope::Read],
        organization_id: None,
    }
}

/// Does what the database's owner can do.
async fn tamper(db: &TestDb, sql: &str) {
    let owner = db.connect().await.unwrap();
    if db.engine() == Engine::Sqlite {
        let drop = "DROP TRIGGER audit_log_no_update; DROP TRIGGER audit_log_no_delete";
        owner.execute_unprepared(drop).await.unwrap();
    }
    for sql in sql.split("; ") {
        let done = owner.execute_unprepared(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert!(done.rows_affected() > 0, "nothing was done by {sql}");
    }
}

async fn violated(store: &Store) -> Vec<&'static str> {
    let report = store.verify().await.unwrap();
    report.checks.iter().filter(|check| check.violations > 0 && !check.is_warning).map(|check| check.name).collect()
}

both_engines!(verify_finds_whatever_was_done_to_the_log, async |db| {
    let engine = db.engine();
    drop(db);
    for (fault, sql, expected) in FAULTS {
        let db = TestDb::new(engine).await.unwrap();
        let store = store(&db).await;
        let id = history(&store).await;
        assert_eq!(violated(&store).await, Vec::<&str>::new(), "before {fault}");
        let (chain, nobody) = match engine {
            Engine::Sqlite => {
                (format!("organization_id = x'{}'", id.uuid().simple()), format!("x'{}'", "0".repeat(32)))
            }
            Engine::Postgres => (format!("organization_id = '{id}'"), format!("'{}'", uuid::Uuid::nil())),
        };
        let sql = sql.replace("$chain", &chain).replace("$nobody", &nobody).replace("$columns", COLUMNS);
        tamper(&db, &sql).await;
        let found = violated(&store).await;
        let mut expected = expected.to_vec();
        expected.sort_by_key(|name| [HASHES, DENSE, ENDS].iter().position(|known| known == name));
        assert_eq!(found, expected, "after {fault}");
        let report = store.verify().await.unwrap();
        let example = report.checks.iter().find(|check| check.name == found[0]).unwrap().examples[0].clone();
        assert!(example.contains("number "), "{fault} is shown as {example}");
        store.close().await;
    }
});

both_engines!(what_ends_well_after_more_than_one_page_of_lines_is_sound, async |db| {
    let store = store(&db).await;
    let acme = organization(&store, "acme", ai(1)).await;
    // No more at once than may wait of one organization.
    for _ in 0..2 {
        let grants = (0..550).map(|_| store.grant(acme, purchase(ai(1)), None));
        for granted in futures_util::future::join_all(grants).await {
            granted.unwrap();
        }
    }
    let other = organization(&store, "other", ai(1)).await;
    assert_eq!(violated(&store).await, Vec::<&str>::new());
    assert_eq!(lines(&store, Some(acme)).await.len(), 1_102);
    assert_eq!(lines(&store, Some(other)).await.len(), 2);
    let digits = if db.engine() == Engine::Sqlite { "x'" } else { "'" };
    let of_acme = format!("organization_id = {digits}{}' AND sequence = 1050", acme.uuid().simple());
    tamper(&db, &format!("UPDATE audit_log SET actor = 'x' WHERE {of_acme}")).await;
    assert_eq!(violated(&store).await, [HASHES]);
    store.close().await;
});

async fn lines(store: &Store, organization_id: Option<OrganizationId>) -> Vec<AuditLine> {
    let filter = AuditFilter { organization_id, ..AuditFilter::default() };
    let (mut lines, mut after) = (Vec::new(), None);
    loop {
        let page = store.audit_log(filter.clone(), PageRequest { after, limit: 100 }).await.unwrap();
        lines.extend(page.items);
        let Some(next) = page.next else { return lines };
        after = Some(next);
    }
}

both_engines!(a_status_and_a_name_that_change_at_once_get_in_nobodys_way, async |db| {
    // The ledger sets the one and a catalogue the other, in the same row and with the same chain.
    let stores = [store(&db).await, store(&db).await];
    let id = organization(&stores[0], "acme", ai(1)).await;
    let changes = (0..40_usize).map(|round| {
        let store = stores[round % 2].clone();
        async move {
            let frozen = if round % 4 < 2 { OrganizationStatus::Frozen } else { OrganizationStatus::Active };
            let status = OrganizationUpdate { status: Some(frozen), ..Default::default() };
            let name = OrganizationUpdate { name: Some(format!("acme {round}")), ..Default::default() };
            let put = store.put_member(id, "u", MemberRole::ALL[round % 4]);
            let status = store.update_organization(id, status);
            let done = futures_util::future::join3(status, store.update_organization(id, name), put).await;
            assert!(done.0.is_ok() && done.1.is_ok() && done.2.is_ok(), "{done:?}");
        }
    });
    futures_util::future::join_all(changes).await;
    assert_eq!(violated(&stores[0]).await, Vec::<&str>::new());
    // Each line begins where the one before it of the same kind ended.
    let mut lines = lines(&stores[0], Some(id)).await;
    lines.reverse();
    for field in ["name", "status", "role"] {
        let states = lines.iter().filter(|line| line.after.as_ref().is_some_and(|after| !after[field].is_null()));
        let states: Vec<_> = states.map(|line| (line.before.clone(), line.after.clone())).collect();
        assert!(states.len() > 2, "{field}: {states:?}");
        for pair in states.windows(2) {
            assert_eq!(pair[0].1.as_ref().unwrap()[field], pair[1].0.as_ref().unwrap()[field]);
        }
    }
    for store in stores {
        store.close().await;
    }
});

both_engines!(many_who_change_everything_at_once_get_in_nobodys_way, async |db| {
    // Two stores are two processes: their ledgers lock the same accounts, and their catalogues the same chains.
    let stores = [store(&db).await, store(&db).await];
    let mut organizations = Vec::new();
    for number in 0..6 {
        organizations.push(organization(&stores[0], &format!("o{number}"), ai(1_000)).await);
    }
    let before = lines(&stores[0], None).await.len();
    let rounds: u8 = 12;
    let changes =
        (0..rounds).flat_map(|round| organizations.iter().enumerate().map(move |(place, id)| (round, place, *id)));
    let changes = changes.map(|(round, place, id)| {
        let store = stores[(usize::from(round) + place) % 2].clone();
        async move {
            store.grant(id, purchase(ai(1)), None).await.unwrap();
            store.consume(id, request("ai_chat", 1), None).await.unwrap();
            store.put_member(id, &format!("u{round}"), MemberRole::Member).await.unwrap();
            let name = Some(format!("o{place} {round}"));
            store.update_organization(id, OrganizationUpdate { name, ..Default::default() }).await.unwrap();
            let seed = round * 6 + u8::try_from(place).unwrap() + 100;
            store.create_api_key(key(seed)).await.unwrap();
        }
    });
    futures_util::future::join_all(changes).await;
    let all = lines(&stores[0], None).await;
    assert_eq!(all.len() - before, usize::from(rounds) * 6 * 4, "one line for each change, and none for consumptions");
    assert!(all.is_sorted_by_key(|line| std::cmp::Reverse(line.created_at)));
    assert_eq!(violated(&stores[1]).await, Vec::<&str>::new());
    for store in stores {
        store.close().await;
    }
});

#[test]
fn on_sqlite_nobody_changes_a_line_by_mistake() {
    tests::run(Engine::Sqlite, async |db| {
        let store = store(&db).await;
        history(&store).await;
        let owner = db.connect().await.unwrap();
        for sql in [
            "UPDATE audit_log SET actor = 'x'",
            "DELETE FROM audit_log",
            "REPLACE INTO audit_log SELECT * FROM audit_log",
        ] {
            let error = owner.execute_unprepared(sql).await.expect_err(sql).to_string();
            assert!(error.contains("append-only"), "{sql}: {error}");
        }
        assert_eq!(violated(&store).await, Vec::<&str>::new());
        store.close().await;
    });
}
