-- Counts the ends of the rows that are closed already: one pass over the log.

INSERT INTO end_kinds ("type", "cause", "reason", "initiator", "expected", "relay")
  SELECT DISTINCT connections."type", connections."disconnect_cause", connections."disconnect_reason",
    connections."disconnect_initiator", connections."disconnect_expected", coalesce(connections."relay_region", '')
  FROM connections WHERE connections.status = 'closed';

INSERT INTO end_places ("workspace_id", "workspace", "user")
  SELECT DISTINCT coalesce(connections."workspace_id", ''), coalesce(connections."workspace", ''),
    coalesce(connections."user", '')
  FROM connections WHERE connections.status = 'closed';

INSERT INTO ends_by_hour (hour, kind_id, ends, lived_ms)
  SELECT (CAST(connections.disconnected_at AS INTEGER) / 3600), kind_id, count(*), sum(
    CAST(round((connections.disconnected_at - coalesce(connections.connected_at, connections.disconnected_at)) * 1000) AS INTEGER))
  FROM connections JOIN end_kinds ON end_kinds."type" = connections."type" AND end_kinds."cause" = connections."disconnect_cause"
    AND end_kinds."reason" = connections."disconnect_reason" AND end_kinds."initiator" = connections."disconnect_initiator"
    AND end_kinds."expected" = connections."disconnect_expected" AND end_kinds."relay" = coalesce(connections."relay_region", '')
  WHERE connections.status = 'closed' GROUP BY 1, 2;

INSERT INTO ends_by_day (day, kind_id, ends, lived_ms)
  SELECT hour / 24, kind_id, sum(ends), sum(lived_ms) FROM ends_by_hour GROUP BY 1, 2;

INSERT INTO ends_by_place_day (day, place_id, expected, unexplained, ends, lived_ms)
  SELECT (CAST(connections.disconnected_at AS INTEGER) / 86400), place_id, disconnect_expected,
    disconnect_reason = 'unknown', count(*), sum(
    CAST(round((connections.disconnected_at - coalesce(connections.connected_at, connections.disconnected_at)) * 1000) AS INTEGER))
  FROM connections JOIN end_places ON end_places."workspace_id" = coalesce(connections."workspace_id", '')
    AND end_places."workspace" = coalesce(connections."workspace", '') AND end_places."user" = coalesce(connections."user", '')
  WHERE connections.status = 'closed' GROUP BY 1, 2, 3, 4;

INSERT INTO ends_by_place_month (month, place_id, expected, unexplained, ends, lived_ms)
  SELECT day / 30, place_id, expected, unexplained, sum(ends), sum(lived_ms)
  FROM ends_by_place_day GROUP BY 1, 2, 3, 4;
