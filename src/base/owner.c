/*
 * owner.c: the extension's tables, and commands that are run as its owner.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_namespace.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "base/guc.h"
#include "base/owner.h"

/*
 * The extension's schema, or invalid.  Where it has not been created, anybody
 * may have made one of that name, with tables that are not what we read.
 */
Oid
sc_own_namespace(void)
{
	static Oid	own = InvalidOid;
	Oid			nsp = get_namespace_oid("scalecache", true);
	Oid			extension;

	if (!OidIsValid(nsp) || nsp == own)
		return nsp;
	extension = getExtensionOfObject(NamespaceRelationId, nsp);
	if (!OidIsValid(extension) || extension != get_extension_oid("scalecache", true))
		return InvalidOid;
	return own = nsp;
}

/*
 * Any session may look into the extension's tables while somebody drops it, be
 * it for a query of a table that has no rollup.  So whoever does is not to fail
 * when they are gone, and finds those of another extension that came instead.
 */
Relation
sc_own_table_open(const char *name, LOCKMODE mode)
{
	for (;;)
	{
		Oid			nsp = sc_own_namespace();
		Oid			relid = OidIsValid(nsp) ? get_relname_relid(name, nsp) : InvalidOid;
		Relation	rel = OidIsValid(relid) ? try_table_open(relid, mode) : NULL;

		if (rel != NULL || !OidIsValid(relid))
			return rel;
	}
}

/*
 * Any query may have to look into these, also one of another of the extension's
 * tables, which is locked by then.  DROP EXTENSION comes to these first.  So a
 * worker that has no other table locked yet does it in that order, too.
 */
void
sc_own_tables_hold(void)
{
	static const char *const names[] = {"rollup", "cache_rule"};

	for (int i = 0; i < lengthof(names); i++)
	{
		Relation	rel = sc_own_table_open(names[i], AccessShareLock);

		if (rel)
			table_close(rel, NoLock);
	}
}

/*
 * As a part of what the user does: event triggers are told of that, and not of
 * what the storage is made of.
 */
static void
run_utility(const char *sql)
{
	PlannedStmt *pstmt = makeNode(PlannedStmt);

	pstmt->commandType = CMD_UTILITY;
	pstmt->utilityStmt = linitial_node(RawStmt, raw_parser(sql, RAW_PARSE_DEFAULT))->stmt;
	pstmt->stmt_location = -1;
	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
	ProcessUtility(pstmt, sql, false, PROCESS_UTILITY_SUBCOMMAND, NULL, NULL,
				   None_Receiver, NULL);
	PopActiveSnapshot();
	CommandCounterIncrement();
}

/* One utility command. */
void
sc_exec_as_owner(const char *sql)
{
	int			nest = sc_fixed_path_begin();
	Oid			saveuser;
	int			savesec;

	GetUserIdAndSecContext(&saveuser, &savesec);
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID,
						   savesec | SECURITY_LOCAL_USERID_CHANGE);
	run_utility(sql);
	SetUserIdAndSecContext(saveuser, savesec);
	AtEOXact_GUC(false, nest);
}

char *
sc_qualified_name(Oid relid)
{
	char	   *nsp = get_namespace_name(get_rel_namespace(relid));
	char	   *name = get_rel_name(relid);

	if (nsp == NULL || name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid),
				 errdetail("It has been dropped just now.")));
	return quote_qualified_identifier(nsp, name);
}
