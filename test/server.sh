# server.sh: what ./quickstart, test/run and bench/run share: finding or
# installing PostgreSQL, building, and a private server.  Sourced, not run.
#
# A private server lives in one directory: data, socket, log and password.  It
# never runs as root: when root asks, the user "postgres" that PostgreSQL's
# package creates runs it.

sc_say()
{
	printf '== %s\n' "$*"
}

sc_die()
{
	printf 'error: %s\n' "$*" >&2
	exit 1
}

# Run as root, through sudo where that is needed.
sc_root()
{
	if [ "$(id -u)" = 0 ]; then
		"$@"
	else
		command -v sudo >/dev/null ||
			sc_die "\"$*\" needs root, and there is no sudo"
		sudo "$@"
	fi
}

# Run as a user that may run a PostgreSQL server.
sc_unprivileged()
{
	if [ "$(id -u)" = 0 ]; then
		runuser -u postgres -- "$@"
	else
		"$@"
	fi
}

# Set PG_CONFIG and BINDIR to a PostgreSQL 15 one can build against and start
# servers of.  Fails quietly when there is none.
sc_find_postgres()
{
	local candidate

	for candidate in ${PG_CONFIG:+"$PG_CONFIG"} \
		/usr/lib/postgresql/15/bin/pg_config "$(command -v pg_config)"; do
		case $("$candidate" --version 2>/dev/null) in
			'PostgreSQL 15'*) ;;
			*) continue ;;
		esac
		BINDIR=$("$candidate" --bindir 2>/dev/null) || continue
		if [ -x "$BINDIR/initdb" ] && [ -x "$BINDIR/pgbench" ] &&
			[ -f "$("$candidate" --pgxs)" ] &&
			[ -f "$("$candidate" --includedir-server)/postgres.h" ]; then
			PG_CONFIG=$candidate
			export PG_CONFIG BINDIR
			return 0
		fi
	done
	return 1
}

# Install by apt whatever is missing of the needs.  Arguments: further packages.
sc_install_needs()
{
	local package
	local missing=()

	sc_find_postgres || missing+=(postgresql)
	pkg-config --exists hiredis 2>/dev/null ||
		missing+=(pkg-config libhiredis-dev)
	{ command -v make && command -v cc; } >/dev/null 2>&1 ||
		missing+=(build-essential)
	for package in "$@"; do
		dpkg-query -W -f '${Status}' "$package" 2>/dev/null |
			grep -q 'ok installed' || missing+=("$package")
	done
	[ ${#missing[@]} -gt 0 ] || return 0

	command -v apt-get >/dev/null ||
		sc_die "missing: ${missing[*]}; install them and run this again"
	sc_say "Installing by apt: ${missing[*]}"
	sc_root apt-get update -qq || sc_say "apt-get update failed; going on"
	if [ "${missing[0]}" = postgresql ]; then
		[ -n "$(apt-cache search --names-only '^postgresql-server-dev-15$')" ] ||
			sc_die "apt knows no PostgreSQL 15; https://wiki.postgresql.org/wiki/Apt says where it is"
		missing=(postgresql-15 postgresql-server-dev-15 "${missing[@]:1}")
	fi
	sc_root env DEBIAN_FRONTEND=noninteractive \
		apt-get install -y -qq --no-install-recommends "${missing[@]}" \
		>/dev/null || sc_die "apt-get could not install ${missing[*]}"
	sc_find_postgres || sc_die "no PostgreSQL with server headers was found"
}

# Options for apt, in sc_apt, with which it knows of source packages: where its own
# sources have none, by lists in directory $1 made of them.
sc_apt_sources()
{
	local file

	sc_apt=()
	! apt-cache showsrc postgresql-common 2>/dev/null | grep -q . || return 0
	mkdir -p "$1/apt/parts" "$1/apt/lists/partial"
	for file in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
		case $file in
			*.list) sed -n 's/^[[:space:]]*deb[[:space:]]/deb-src /p' "$file" \
				>"$1/apt/parts/${file##*/}" ;;
			*.sources) sed 's/^Types:.*/Types: deb-src/' "$file" \
				>"$1/apt/parts/${file##*/}" ;;
		esac
	done 2>/dev/null
	sc_apt=(-o Dir::Etc::SourceList=/dev/null -o "Dir::Etc::SourceParts=$1/apt/parts"
		-o "Dir::State::lists=$1/apt/lists" -o APT::Sandbox::User=)
	apt-get "${sc_apt[@]}" update -qq >/dev/null 2>&1
	return 0
}

# Print where the server's source is: $PG_SOURCE, or fetched by apt into $1.
sc_postgres_source()
{
	local version package releases release

	if [ -n "${PG_SOURCE:-}" ]; then
		echo "$PG_SOURCE"
		return 0
	fi
	version=$("$PG_CONFIG" --version | sed 's/^PostgreSQL \([0-9.]*\).*/\1/')
	sc_say "Fetching the source of PostgreSQL $version by apt" >&2
	command -v dpkg-source >/dev/null || sc_install_needs dpkg-dev >&2
	package=postgresql-${version%%.*}
	sc_apt_sources "$1"
	releases=$(apt-cache "${sc_apt[@]}" showsrc "$package" 2>/dev/null |
		sed -n 's/^Version: //p' | sort -ruV)
	# The server's own, or else another that is to be had
	for release in $(grep "^${version//./\\.}-" <<<"$releases") $releases; do
		rm -rf "$1"/postgresql-*
		if (cd "$1" && apt-get "${sc_apt[@]}" source -qq "$package=$release") \
			>"$1/source.log" 2>&1; then
			echo "$1"/postgresql-"${version%%.*}"-*/
			return 0
		fi
	done
	cat "$1/source.log" >&2
	sc_die "no source package; set PG_SOURCE"
}

# Build the tree in $1 and install it.
sc_build()
{
	sc_say "Building with $("$PG_CONFIG" --version)"
	make -s -C "$1" -j"$(nproc)" PG_CONFIG="$PG_CONFIG" ||
		sc_die "the build failed"
	sc_say "Installing into $("$PG_CONFIG" --pkglibdir)"
	if [ -w "$("$PG_CONFIG" --pkglibdir)" ] &&
		[ -w "$("$PG_CONFIG" --sharedir)/extension" ]; then
		make -s -C "$1" install PG_CONFIG="$PG_CONFIG" >/dev/null
	else
		sc_root make -s -C "$1" install PG_CONFIG="$PG_CONFIG" >/dev/null
	fi || sc_die "the installation failed"
}

# Start a private server in directory $1 on port $2 of localhost, making it
# first if need be.  Further arguments: lines for its configuration, which
# count only when it is made.  Sets PGHOST, PGPORT and PGUSER.
sc_server_start()
{
	local dir=$1 port=$2 conf
	shift 2

	if [ ! -f "$dir/data/PG_VERSION" ]; then
		mkdir -p -m 700 "$dir" || sc_die "cannot make $dir"
		[ -O "$dir" ] || sc_unprivileged test -O "$dir" ||
			sc_die "$dir belongs to somebody else"
		[ "$(id -u)" != 0 ] || chown postgres: "$dir"
		sc_unprivileged rm -rf "$dir/data" "$dir/socket"
		sc_unprivileged mkdir -m 700 "$dir/socket"
		# Only this user reaches the socket, so no password there.
		sc_unprivileged sh -c 'umask 077; od -An -N16 -tx1 /dev/urandom |
			tr -d " \n" >"$1/password"' sh "$dir"
		(cd "$dir" && sc_unprivileged "$BINDIR/initdb" -D "$dir/data" \
			-U postgres --pwfile="$dir/password" --auth-local=trust \
			--auth-host=scram-sha-256 -E UTF8 --locale=C >"$dir/initdb.log" 2>&1) ||
			{ cat "$dir/initdb.log" >&2; sc_die "initdb failed"; }
		conf=$(printf '%s\n' "listen_addresses = 'localhost'" "port = $port" \
			"unix_socket_directories = '$dir/socket'" "$@")
		printf '%s\n' "$conf" | sc_unprivileged tee -a \
			"$dir/data/postgresql.conf" >/dev/null
	fi
	if ! sc_server_running "$dir"; then
		(cd "$dir" && sc_unprivileged "$BINDIR/pg_ctl" -D "$dir/data" \
			-l "$dir/log" -w -s start >/dev/null) || {
			tail -n 20 "$dir/log" >&2
			sc_die "the server did not start"
		}
	fi
	export PGHOST=$dir/socket PGPORT=$port PGUSER=postgres
}

sc_server_running()
{
	[ -d "$1/data" ] && (cd "$1" &&
		sc_unprivileged "$BINDIR/pg_ctl" -D "$1/data" status >/dev/null 2>&1)
}

# Stop the private server in directory $1 and delete the directory.
sc_server_remove()
{
	[ -d "$1" ] || return 0
	if sc_server_running "$1"; then
		(cd "$1" && sc_unprivileged "$BINDIR/pg_ctl" -D "$1/data" \
			-m fast -w -s stop) || sc_die "the server in $1 did not stop"
	fi
	rm -rf "$1"
}

# The directory of a private server called $1 of the checkout $2.  Another
# user cannot enter root's directories, and a socket's path has to be short.
sc_server_dir()
{
	if [ "$(id -u)" = 0 ] || [ ${#2} -gt 70 ]; then
		echo "/tmp/scalecache-$1-$(id -u)"
	else
		echo "$2/.$1"
	fi
}

# Set work to a new directory for a test of this name, to be deleted by the
# caller.  It is one that the server's user can enter, with a path short enough
# for sockets below it, so it may not be where TMPDIR says.
sc_work_dir()
{
	local at

	for at in "${TMPDIR:-/tmp}" /tmp; do
		work=$(mktemp -d "$at/scalecache-$1.XXXXXX") || continue
		[ "$(id -u)" != 0 ] || chown postgres: "$work"
		[ ${#work} -le 60 ] && sc_unprivileged test -x "$work" && return
		rmdir "$work"
	done
	sc_die "no temporary directory"
}

# Copy the checkout $1 as it is on disk, committed or not, without builds.
sc_copy_tree()
{
	mkdir "$2"
	tar -C "$1" --exclude=./.git --exclude=./.quickstart --exclude=./.bench \
		--exclude=./tmp_check --exclude='*.o' --exclude='*.so' --exclude='*.bc' \
		-cf - . | tar -C "$2" --no-same-owner -xf - || sc_die "copy failed"
}

sc_psql()
{
	"$BINDIR/psql" -X -q -v ON_ERROR_STOP=1 "$@"
}

# The median of the numbers on standard input.
sc_median()
{
	sort -g | awk '{ v[NR] = $1 }
		END { if (NR == 0) exit 1
			print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

# The time of the SQL in $1 in milliseconds, as psql's \timing shows it.
sc_time()
{
	local out

	# A statement that failed has no time.
	out=$(printf '\\timing on\n%s\n' "$1" |
		sc_psql -v ON_ERROR_STOP=1 -o /dev/null -At 2>&1) || return 1
	printf '%s\n' "$out" | sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p' | tail -n 1
}

# Transactions per second of pgbench with the given arguments.
sc_tps()
{
	"$BINDIR/pgbench" -n "$@" 2>/dev/null |
		sed -n 's/^tps = \([0-9.]*\).*/\1/p' | tail -n 1
}

# $1 / $2 with two digits
sc_ratio()
{
	awk -v a="$1" -v b="$2" 'BEGIN { if (b > 0) printf "%.2f", a / b; else printf "-" }'
}
