-- As many rows as an index is needed for, beside whatever a test has made: organizations that never did anything else,
-- each with a history. Nothing here is a ledger that adds up; it is for the planner.

SELECT ensure_consumption_log_partitions((now() - interval '3 months')::date, 4);

CREATE TEMPORARY TABLE o AS SELECT gen_random_uuid() AS id, n FROM generate_series(1, 2000) AS n;

INSERT INTO organizations SELECT id, 'organization ' || n, 'external ' || n, 'UTC', 'active', now(), now() FROM o;
INSERT INTO organization_credits (organization_id, ai_credits_available, status, sequence, last_movement_at,
    next_boundary_at, settled_sequence)
    SELECT id, 1000, 'active', 30, now(), CASE WHEN n % 10 = 0 THEN now() + interval '1 month' END, 30 FROM o;
INSERT INTO organization_members SELECT id, 'user ' || n || ' ' || m, 'member', now() FROM o, generate_series(1, 3) AS m;
INSERT INTO api_keys SELECT gen_random_uuid(), 'key', sha256(id::text::bytea), 'mc_', 'read', id, now(), NULL FROM o;
INSERT INTO credit_grants (organization_id, id, ai_credits_granted, state, source, priority, effective_at, created_at)
    SELECT id, gen_random_uuid(), 1000, CASE m WHEN 1 THEN 'active' ELSE 'exhausted' END, 'purchase', 10,
        now() - m * interval '1 day', now() - m * interval '1 day' FROM o, generate_series(1, 8) AS m;
INSERT INTO credit_movements (organization_id, sequence, kind, created_at)
    SELECT id, m, 'grant', now() - m * interval '1 day' FROM o, generate_series(1, 15) AS m;
INSERT INTO credit_draws (organization_id, sequence, grant_id, ai_credits_drawn)
    SELECT g.organization_id, m, g.id, 10 FROM credit_grants AS g JOIN o ON o.id = g.organization_id,
        generate_series(1, 3) AS m;
INSERT INTO credit_consumption_logs (id, organization_id, action_type, quantity, ai_credits_consumed, success, error_code,
    created_at, sequence, price_version, ai_credits_available_after)
    SELECT gen_random_uuid(), id, CASE WHEN m % 3 = 0 THEN 'ai_chat' ELSE 'ai_tokens' END, 1, (m % 20 > 0)::int,
        m % 20 > 0, CASE WHEN m % 20 = 0 THEN 'insufficient_credits' END, now() - m * interval '2 days',
        CASE WHEN m % 20 > 0 THEN m END, 1, CASE WHEN m % 20 > 0 THEN 1000 END FROM o, generate_series(1, 40) AS m;
INSERT INTO credit_holds (organization_id, id, action_type, quantity, price_version, ai_credits_held, state, sequence,
    created_at, expires_at, finished_at)
    SELECT id, gen_random_uuid(), 'ai_chat', 1, 1, 1, CASE m WHEN 1 THEN 'open' ELSE 'captured' END, m,
        now() - m * interval '1 hour', now() + interval '1 day', CASE WHEN m > 1 THEN now() END
    FROM o, generate_series(1, 5) AS m;
INSERT INTO credit_refunds (organization_id, id, consumption_id, quantity, reason, sequence, created_at)
    SELECT id, gen_random_uuid(), gen_random_uuid(), 1, 'a test', m, now() - m * interval '1 day'
    FROM o, generate_series(1, 2) AS m;
INSERT INTO idempotency_keys
    SELECT id, gen_random_uuid(), gen_random_uuid(), 'consume', gen_random_uuid(), now(), NULL, current_date + m
    FROM o, generate_series(1, 10) AS m;
INSERT INTO plans SELECT 'plan ' || n, 1, now(), now() FROM generate_series(1, 1200) AS n;
INSERT INTO plan_versions (code, version, ai_credits_allowance, period, priority, created_at)
    SELECT 'plan ' || n, 1, 1, 'month', 10, now() FROM generate_series(1, 1200) AS n;
INSERT INTO subscriptions (organization_id, plan_code, plan_version, time_zone, anchor, next_index, created_at, updated_at)
    SELECT id, 'plan 1', 1, 'UTC', now(), 0, now(), now() FROM o;
INSERT INTO credit_actions SELECT 'action_' || n, 1, now(), now() FROM generate_series(1, 20000) AS n;
INSERT INTO credit_action_versions (action_type, version, ai_credits_cost, unit_size, active, effective_at, created_at)
    SELECT 'action_' || n, 1, 1, 1, true, now(), now() FROM generate_series(1, 20000) AS n;
INSERT INTO usage_rollups (organization_id, bucket_start, action_type, ai_credits_consumed, consumption_count)
    SELECT id, date_trunc('hour', now()) - m * interval '1 day', 'ai_chat', 1, 1 FROM o, generate_series(1, 30) AS m;
INSERT INTO usage_totals (organization_id, through, consumption_count, last_attempt_at)
    SELECT id, now(), 30, now() FROM o;
INSERT INTO audit_chains SELECT id, 5, repeat('0', 64), now() FROM o;
INSERT INTO audit_chains SELECT gen_random_uuid(), 0, repeat('0', 64), now() FROM generate_series(1, 20000);
INSERT INTO audit_log (organization_id, sequence, created_at, operation, subject, hash)
    SELECT id, m, now() - m * interval '1 day', 'createGrant', 'a test', repeat('0', 64) FROM o, generate_series(1, 5) AS m;
INSERT INTO alert_rules (id, organization_id, name, measure, threshold, active, since, created_at, updated_at)
    SELECT gen_random_uuid(), id, 'a test', 'amount', 10, true, now(), now(), now() FROM o;
INSERT INTO raised_events (organization_id, number, event_type, occurred_at, data)
    SELECT id, m, 'balance.low', now() - m * interval '1 day', '{}' FROM o, generate_series(1, 5) AS m;
INSERT INTO top_up_rules (organization_id, credit_type, threshold, amount, timeout_seconds, cooldown_seconds,
    window_seconds, window_max, active, created_at, updated_at)
    SELECT id, 'sms', 10, 10, 60, 60, 3600, 1, true, now(), now() FROM o;
INSERT INTO top_ups (organization_id, id, credit_type, amount, state, requested_at, expires_at)
    SELECT id, gen_random_uuid(), 'sms', 10, CASE m WHEN 1 THEN 'requested' ELSE 'timed_out' END, now(),
        now() + interval '1 hour' FROM o, generate_series(1, 5) AS m;
CREATE TEMPORARY TABLE w AS SELECT gen_random_uuid() AS id, id AS organization_id FROM o;
INSERT INTO webhook_endpoints (id, organization_id, url, wants_consumed, wants_refused, enabled, is_gone, secret,
    secret_made_at, created_at, updated_at)
    SELECT id, organization_id, 'https://example.org/', false, false, true, false,
        'whsec_' || encode(sha256('a test'), 'base64'), now(), now(), now() FROM w;
INSERT INTO webhook_cursors (organization_id, endpoint_id, sequence, place, told_at, refused_at, refused_id,
    refused_until, raised_number, failures, due_at, leased_until)
    SELECT organization_id, id, 31, 0, now(), now(), id, now(), 6, 0, now(), now() FROM w;
INSERT INTO webhook_deliveries (organization_id, endpoint_id, id, event_id, event_type, reason, attempt, outcome,
    status_code, duration_ms, created_at)
    SELECT organization_id, id, gen_random_uuid(), 'evt_', 'grant.created', 'event', 1, 'delivered', 200, 5, now()
    FROM w, generate_series(1, 5);
SELECT refresh_organization_usage_summary();
