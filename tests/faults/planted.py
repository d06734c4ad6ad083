"""Mistakes that synchronisers make, each as one small change of the product, and the tests that must notice it.

Invariant: `old` stands exactly once in `file`; a test that passes with the mistake in place holds no promise.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """`promise` is broken by putting `new` in the place of `old`; at least one of `tests` must fail then.

    `tests` are pytest arguments. Promises: P1 to P20 of docs/testing.md, B1 to B27 of docs/threat-model.md.
    """

    name: str
    promise: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


FAULTS = (
    # --- the user's disk ----------------------------------------------------------------------------------------
    Fault(
        "a new file is put in place before its bytes are durable",
        "P8",
        "meshsync/folder/staging.py",
        "            syscalls.fsync(self._fd)\n            self.stat",
        "            self.stat",
        ("tests/sim",),
    ),
    Fault(
        "a new name is recorded before its directory is durable",
        "P8",
        "meshsync/folder/swap.py",
        "        self.directories.sync(at.fd)\n",
        "",
        ("tests/sim",),
    ),
    Fault(
        "a file is replaced without a last look at what lies there",
        "P1",
        "meshsync/folder/swap.py",
        "        found = status_or_none(self._syscalls, *at)\n        if not is_expected(found, expected):\n"
        "            return Changed(found.stat if found else None)\n        if expected is None:\n",
        "        if expected is None:\n",
        ("tests/folder/test_folder_apply.py",),
    ),
    Fault(
        "where two files cannot be exchanged a file is replaced without a last look",
        "P1",
        "meshsync/folder/swap.py",
        "        if found is None or not is_expected(found, expected):\n"
        "            return Changed(found.stat if found else None)\n        new = ",
        "        assert found is not None\n        new = ",
        ("tests/folder/test_folder_apply.py", "tests/folder/test_folder_model.py -m slow"),
    ),
    Fault(
        "what came out of the tree is removed without a look at it",
        "P1",
        "meshsync/folder/swap.py",
        "        if not came_out(expected, out):\n"
        "            return Changed(out.stat, self._put_back(swap, staged, at))\n",
        "",
        ("tests/folder/test_folder_apply.py",),
    ),
    Fault(
        "a file is taken away before the new one is put in its place",
        "P5",
        "meshsync/folder/swap.py",
        "            self._syscalls.exchange(self._staging.fd, swap, *at)\n        except FileNotFoundError:\n"
        "            return Changed(None)\n",
        "            self._syscalls.rename(*at, self._staging.fd, swap + b'old')\n"
        "            self._syscalls.rename(self._staging.fd, swap, *at)\n"
        "            self._syscalls.rename(self._staging.fd, swap + b'old', self._staging.fd, swap)\n"
        "        except FileNotFoundError:\n            return Changed(None)\n",
        ("tests/folder/test_folder_races.py -m slow",),
    ),
    Fault(
        "a crash forgets the edit that came out of the tree",
        "P8",
        "meshsync/folder/staging.py",
        "        if ours and not (directory and self._has_entries(name)):\n            return None\n",
        "        return None\n",
        ("tests/folder/test_folder_crash.py",),
    ),
    Fault(
        "what a crash left staged is never removed",
        "P8",
        "meshsync/folder/staging.py",
        "                if found is None:\n                    self.remove(name)\n                else:\n",
        "                if found is not None:\n",
        ("tests/folder/test_folder_apply.py", "tests/folder/test_folder_crash.py"),
    ),
    Fault(
        "a file is not read again while its size and mtime are equal",
        "P13",
        "meshsync/folder/detect.py",
        "    return racy or recorded != observed\n",
        "    return racy or recorded is None or recorded[2:4] != observed[2:4]\n",
        ("tests/folder/test_folder_reader.py",),
    ),
    Fault(
        "a file that was written in the tick of its reading is believed",
        "P13",
        "meshsync/folder/detect.py",
        "    fine = stat.ctime_ns % FOLDER_TICK_NS != 0\n",
        "    return False\n    fine = stat.ctime_ns % FOLDER_TICK_NS != 0\n",
        ("tests/folder/test_folder_reader.py",),
    ),
    Fault(
        "a file that changed while it was read is published",
        "P13",
        "meshsync/folder/reader.py",
        "    if not (before.stat == after.stat == named.stat and size == before.stat.size):\n"
        "        return Changed(named.stat)\n",
        "",
        ("tests/folder/test_folder_reader.py",),
    ),
    Fault(
        "an mtime is not kept",
        "P16",
        "meshsync/folder/staging.py",
        "            syscalls.set_mtime(self._fd, mtime_ns)\n",
        "",
        ("tests/folder/test_folder_apply.py", "tests/agent/test_agent_applying.py"),
    ),
    Fault(
        "a root without its marker is an empty folder",
        "P14",
        "meshsync/folder/root.py",
        "            return _check_marker(fd, self.folder, self.syscalls)\n",
        "            return None\n",
        ("tests/folder/test_folder_scan.py", "tests/folder/test_folder_root.py"),
    ),
    Fault(
        "links are followed on the way to a file",
        "P12",
        "meshsync/folder/syscalls.py",
        "linux.RESOLVE_BENEATH | linux.RESOLVE_NO_SYMLINKS | linux.RESOLVE_NO_MAGICLINKS | linux.RESOLVE_NO_XDEV",
        "linux.RESOLVE_NO_XDEV",
        ("tests/folder/test_folder_root.py", "tests/folder/test_folder_races.py -m slow"),
    ),
    Fault(
        "a name that hides the control directory is written",
        "B15",
        "meshsync/folder/apply.py",
        "        refused = refused_path(path)\n        if refused:\n            return Blocked(refused)\n        try:\n"
        "            with self._root.directory(path[:-1]) as fd:\n                return change(fd, path[-1])\n",
        "        try:\n            with self._root.directory(path[:-1]) as fd:\n"
        "                return change(fd, path[-1])\n",
        ("tests/folder/test_folder_apply.py", "tests/promises/test_b15_names.py"),
    ),
    # --- what is true of the tree -------------------------------------------------------------------------------
    Fault(
        "the last writer wins",
        "P3",
        "meshsync/sync/view.py",
        "        node.puts += (version,)\n        node.live += (version,)\n",
        "        node.puts += (version,)\n        node.live = (version,)\n",
        ("tests/model", "tests/sync/test_view_engine.py"),
    ),
    Fault(
        "a delete wins over an edit that it had not seen",
        "P4",
        "meshsync/sync/view.py",
        "            for name in item.versions:\n                version = self.versions.get(name)\n",
        "            for name in [v.dot for v in self.nodes[item.node].live] if item.node in self.nodes else ():\n"
        "                version = self.versions.get(name)\n",
        ("tests/model", "tests/sync/test_view_engine.py"),
    ),
    Fault(
        "a delete is forgotten",
        "P7",
        "meshsync/sync/view.py",
        "                    version.claims += (claims[-1],)\n",
        "",
        ("tests/model", "tests/sync/test_view_engine.py"),
    ),
    Fault(
        "an entry does not advance the version vector",
        "P2",
        "meshsync/sync/view.py",
        "        self.vector[entry.chain] = entry.seq\n",
        "        self.vector.setdefault(entry.chain, entry.seq)\n",
        ("tests/model", "tests/sync/test_view_engine.py"),
    ),
    Fault(
        "moves of directories count in the order in which they arrive",
        "P2",
        "meshsync/sync/placement.py",
        "        later = self._moves[at:]\n",
        "        later, at = [], len(self._moves)\n",
        ("tests/model", "tests/sync/test_view_engine.py"),
    ),
    Fault(
        "a conflict copy is named by device and second, not by what it is",
        "P3",
        "meshsync/sync/names.py",
        "    return f\" (conflict {device[:2].hex()} {digest('derived-name', node).hex()[:digits]})\".encode()\n",
        '    return f" (conflict {device[:2].hex()} {0:0{digits}d})".encode()\n',
        ("tests/sync/test_derived_names.py", "tests/sync"),
    ),
    Fault(
        "what is not observed is taken for removed",
        "P14",
        "meshsync/sync/match.py",
        " or not local.is_observed(expected if expected is not None else path)\n",
        "\n",
        ("tests/sync",),
    ),
    Fault(
        "a file is removed without a witness that anybody removed it",
        "P14",
        "meshsync/sync/settle.py",
        "    return all(name in view.versions or view.covers(name) for name in row.versions)\n",
        "    return True\n",
        ("tests/sync", "tests/agent/test_agent_quarantine.py"),
    ),
    Fault(
        "a rename is a removal and a new file",
        "P4",
        "meshsync/sync/match.py",
        "    held = {row.stat.inode for now in matched.was",
        "    return\n    held = {row.stat.inode for now in matched.was",
        ("tests/sync/test_reconcile.py",),
    ),
    Fault(
        "what apply did before a crash is taken for the user's",
        "P6",
        "meshsync/sync/settle.py",
        "            if is_true:\n                rows.append(",
        "            if is_true and False:\n                rows.append(",
        ("tests/sync", "tests/sim"),
    ),
    Fault(
        "equal content on both sides is a conflict",
        "P6",
        "meshsync/sync/listing.py",
        "                classes.setdefault(face.content, []).append(face)\n",
        "                classes.setdefault(face.content, []).append(face)\n"
        "                if classes[face.content][0] is not face and face.content != DIRECTORY:\n"
        "                    classes[face.content].pop()\n"
        "                    classes[Content(Kind.FILE, target=face.node)] = [face]\n",
        ("tests/model", "tests/sync"),
    ),
    Fault(
        "a file waits for ever once it was blocked",
        "P18",
        "meshsync/agent/folder_loop.py",
        "            self._later(RETRY_BLOCKED_S, lambda: self._retry(node))\n",
        "",
        ("tests/promises/test_p11_twins.py",),
    ),
    Fault(
        "what could not be observed for a moment is never planned again",
        "P18",
        "meshsync/agent/observer.py",
        "        seen.changed |= cleared  #",
        "        #",
        ("tests/agent/test_agent_observer.py", "tests/sim"),
    ),
    Fault(
        "of two names that a target takes for one the second is merged with the first",
        "P11",
        "meshsync/folder/apply.py",
        "        return None if name in self._syscalls.names(fd) else Blocked(Reason.NAME_COLLIDES)\n",
        "        return None\n",
        ("tests/promises/test_p11_twins.py",),
    ),
    Fault(
        "an emptied folder is published at once",
        "P14",
        "meshsync/sync/safety.py",
        "    return len(files | set(burst)) >= policy.emptied_min and not local.has_files()\n",
        "    return False\n",
        ("tests/sync/test_safety.py",),
    ),
    Fault(
        "a mass deletion is published at once",
        "P14",
        "meshsync/sync/safety.py",
        "        return count <= self.changes_min or count <= total * share\n",
        "        return True\n",
        ("tests/sync/test_safety.py",),
    ),
    Fault(
        "a device whose index came back from a backup goes on with its chain",
        "P14",
        "meshsync/agent/replica.py",
        "        if place is not None and place != mark.place:\n            self._own = None\n",
        "",
        ("tests/agent/test_agent_index_mark.py",),
    ),
    Fault(
        "the time of a device decides which version shows",
        "P17",
        "meshsync/sync/listing.py",
        "            faces.sort(key=lambda f: (_RANK[f.content.kind], f.stamp, f.node))\n",
        "            faces.sort(key=lambda f: (_RANK[f.content.kind], f.mtime_ns, f.node))\n",
        ("tests/model", "tests/sync"),
    ),
    Fault(
        "the history tells what was shown when a removal arrived, not what was removed",
        "P10",
        "meshsync/agent/history.py",
        "    known = [version for each in versions if (version := view.version(each)) is not None]\n",
        "    known = list(view.live_versions(node))\n",
        ("tests/agent/test_agent_history.py",),
    ),
    Fault(
        "a full disk is met in the middle of a file",
        "P15",
        "meshsync/folder/staging.py",
        "        if free < wanted:\n",
        "        if False:\n",
        ("tests/folder/test_folder_apply.py",),
    ),
    Fault(
        "a round that ends in an error forgets what it had taken up",
        "P15",
        "meshsync/agent/folder_loop.py",
        "                    self._replan = True  #",
        "                    #",
        ("tests/agent/test_agent_round_errors.py",),
    ),
    Fault(
        "an entry that the index refused is held in memory only",
        "P2",
        "meshsync/agent/replica.py",
        "            self.chains = ChainSet(Row(*link) for link in links)\n            raise\n",
        "            raise\n",
        ("tests/agent/test_agent_round_errors.py",),
    ),
    # --- what is durable and what is believed -------------------------------------------------------------------
    Fault(
        "a chunk store says durable before it is",
        "P9",
        "meshsync/store/pack_writer.py",
        "        self._files.sync(pack.fd)\n        pack.length = at\n",
        "        pack.length = at\n",
        ("tests/store", "tests/store -m slow"),
    ),
    Fault(
        "a relay gives a receipt for content that it does not have",
        "P9",
        "relay/sequencer.py",
        "            return MissingBlobs(absent[:HAVE_ITEMS_MAX])\n        self.pins += stored.blobs\n",
        "            pass\n        self.pins += stored.blobs\n",
        ("tests/relay/test_relay_sequencer.py",),
    ),
    Fault(
        "a relay collects content that a receipt speaks of",
        "P9",
        "relay/drivers/sqlite_blobs.py",
        'db.executemany("UPDATE blobs SET pinned = 1 WHERE folder = ? AND id = ?", [(folder, blob) for blob in blobs])',
        "blobs = ()",
        ("tests/contracts/test_relay_drivers_contract.py", "tests/relay/test_relay_upkeep.py"),
    ),
    Fault(
        "what a member sends as a chunk is believed",
        "P19",
        "meshsync/agent/opening.py",
        "    check_chunk(current, need.kind, need.chunk, data)\n",
        "",
        ("tests/promises/test_b4_damage.py", "tests/agent/test_agent_fetcher.py"),
    ),
    Fault(
        "a chunk that the user has changed meanwhile is served",
        "P19",
        "meshsync/agent/local_chunks.py",
        "            if data is not None and chunk_id(keys, BlobKind.CHUNK, data) == chunk:\n",
        "            if data is not None:\n",
        ("tests/agent/test_agent_local_chunks.py",),
    ),
    Fault(
        "a staged file is put in place without reading it back",
        "P19",
        "meshsync/folder/apply.py",
        "        verify(staged)\n",
        "",
        ("tests/folder/test_folder_apply.py", "tests/agent"),
    ),
    Fault(
        "the signature of an entry is not checked",
        "P19",
        "meshsync/metalog/entry.py",
        "    verify(opened.device, SIGNATURE_KIND, signed.envelope, signed.signature)\n",
        "",
        ("tests/metalog",),
    ),
    Fault(
        "a reader may write",
        "B13",
        "meshsync/metalog/admission.py",
        "    elif not membership.may_write(entry.device):\n",
        "    elif not membership.may_read(entry.device):\n",
        ("tests/metalog/test_metalog_admission.py", "tests/relay/test_relay_sequencer.py"),
    ),
    Fault(
        "a removed device goes on writing",
        "B12",
        "meshsync/metalog/admission.py",
        "        if not _within(entry, pins, chains):\n",
        "        if False and not _within(entry, pins, chains):\n",
        ("tests/metalog/test_metalog_admission.py", "tests/agent/test_agent_quarantine.py"),
    ),
    Fault(
        "whoever answers is taken for the device that was dialled",
        "B1",
        "meshsync/wire/session.py",
        "            verify(device, role, signed, signature)\n",
        "            pass\n",
        ("tests/wire/test_wire_session.py",),
    ),
    Fault(
        "a chunk that two files need is fetched twice",
        "P20",
        "meshsync/agent/fetcher.py",
        "        need = self._needs.get(chunk)\n        if need is None:\n",
        "        need = None\n        if need is None:\n",
        ("tests/agent/test_agent_fetcher.py",),
    ),
    Fault(
        "a move that lost to a cycle shields what is removed after it",
        "P7",
        "meshsync/sync/faces.py",
        "    latest = tree.stamp if node.placed is None else max(tree.stamp, node.placed.stamp)\n",
        "    latest = tree.stamp\n",
        ("tests/sync/test_planner_seeds.py",),
    ),
    Fault(
        "what is moved away as soon as it was put in place goes unheard",
        "P13",
        "meshsync/agent/folder_loop.py",
        "            self._pending.plan |= in_tree\n",
        "            pass\n",
        ("tests/agent/test_agent_moved_at_once.py",),
    ),
    Fault(
        "a write while the exec bit is set counts as what was applied",
        "P13",
        "meshsync/folder/apply.py",
        "                return Done(after if is_as_set else wanted._replace(ctime_ns=0))\n",
        "                return Done(after)\n",
        ("tests/sim/test_user_points.py",),
    ),
    Fault(
        "a version that shows nowhere waits for a relay for ever",
        "P9",
        "meshsync/sync/view.py",
        "        return any(name in face.versions and face.content == version.content for face in faces)\n",
        "        return any(name in face.versions for face in faces)\n",
        ("tests/sync/test_mtimes.py",),
    ),
    Fault(
        "what one relay has counts as stored at all of them",
        "P9",
        "meshsync/index/version_rows.py",
        '"DELETE FROM unstored WHERE dot = ? AND relay = ?", ((dot, relay) for dot in dots))',
        '"DELETE FROM unstored WHERE dot = ?", ((dot,) for dot in dots))',
        ("tests/agent/test_agent_two_relays.py",),
    ),
    Fault(
        "what another relay has is declared gone at the one that was away",
        "P10",
        "meshsync/agent/uploader.py",
        "wanted.keys() - set(dots) - elsewhere if",
        "wanted.keys() - set(dots) if",
        ("tests/agent/test_agent_two_relays.py",),
    ),
    Fault(
        "what was declared gone is shown as kept by the relay",
        "P10",
        "meshsync/agent/relay_reader.py",
        "self._replica.versions.mark_gone(self._relay, self._own_of(stored.device, stored.gone))",
        "self._replica.versions.mark_stored(self._relay, self._own_of(stored.device, stored.gone))",
        ("tests/agent/test_agent_two_relays.py",),
    ),
    Fault(
        "versions that nobody can bring hide those that lie here",
        "P9",
        "meshsync/agent/durability.py",
        "            if found:\n                return found, following\n",
        "            return found, following\n",
        ("tests/agent/test_agent_durability.py",),
    ),
    Fault(
        "superseded versions of a removed device are waited for",
        "P9",
        "meshsync/sync/durability.py",
        "    return counts and (author_remains or shown)\n",
        "    return counts\n",
        ("tests/agent/test_agent_durability.py",),
    ),
    Fault(
        "a stored record is judged by the members of today",
        "P9",
        "meshsync/agent/relay_reader.py",
        "may_append_stored(membership or self._replica.membership, record.device)",
        "may_append_stored(self._replica.membership, record.device)",
        ("tests/agent/test_agent_stored_place.py",),
    ),
    Fault(
        "a stored record counts whoever signed it",
        "B9",
        "meshsync/agent/relay_reader.py",
        "                if refusal is not None:\n                    raise refusal.error()\n            except",
        "            except",
        ("tests/agent/test_agent_stored_place.py",),
    ),
    Fault(
        "a reader declares what others wrote gone",
        "P9",
        "meshsync/agent/relay_reader.py",
        "if rows and rows[0].device == device]",
        "if rows]",
        ("tests/agent/test_agent_stored_place.py",),
    ),
    Fault(
        "a relay without room is not read any more",
        "P18",
        "meshsync/agent/relay_client.py",
        "                except (AccessError, ResourceError, IntegrityError) as error:\n"
        "                    await waiting.after(error)\n",
        "                except AccessError as error:\n                    await waiting.after(error)\n",
        ("tests/agent/test_agent_relay_full.py",),
    ),
)
