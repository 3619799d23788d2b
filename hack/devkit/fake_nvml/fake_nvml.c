/* A stand-in for libnvidia-ml.so.1 that says what a script file says.
 *
 * FAKE_NVML_SCRIPT names an INI file; it is read again whenever it has been replaced, so a test
 * changes the hardware under a running program by renaming a new file over the old one.
 *
 *   [system]      driver, cuda, count, init (an nvmlReturn_t for nvmlInit), hang (milliseconds that the
 *                 count takes, as under a sick device), error.FUNCTION = code
 *   [gpu N]       uuid, name, busid, total, used, reserved (MiB), util, memutil, temp, memtemp, power,
 *                 limit (mW), energy (mJ), cc (major.minor), gen, width, ecc, rows (c,u,pending,failure),
 *                 recovery, links, version, switch (0|1), peers (index:links,…), clique, cluster, mig,
 *                 processes (pid:MiB,…), lost (0|1), error.FUNCTION = code
 *   [gpu N mig M] uuid, profile, total, used, reserved, gi, processes, error.FUNCTION = code
 *   [event K]     gpu, xid: delivered once, in order of K (ascending from 1)
 *
 * "*" for N holds for all GPUs that do not say otherwise. Structures and numbers are nvml.h's public
 * ABI, as the binding has them. Which functions exist at all is decided when this is linked.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OK = 0, UNINITIALIZED = 1, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, SMALL = 7, TIMEOUT = 10, LOST = 15 };
enum { GPUS = 16, MIGS = 8, LINES = 4096 };
#define ABSENT 0xFFFFFFFFu

typedef int ret;
typedef struct { int gpu, mig; } handle;
typedef handle *device;
typedef struct { unsigned fieldId, scopeId; long long timestamp, latency; unsigned type; ret result; union { double d; unsigned u; unsigned long long ull; } value; } field;
typedef struct { unsigned pid; unsigned long long used; unsigned gi, ci; } process;
typedef struct { device device; unsigned long long type, data; unsigned gi, ci; } event;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2;
typedef struct { unsigned version; unsigned char cluster[16]; ret status; unsigned clique, state, mask; } fabric_v2;
typedef struct { char legacy[16]; unsigned domain, bus, dev, id, sub; char busid[32]; } pci;

static struct { char section[48], key[80], value[1024]; } lines[LINES];
static int used_lines, started, delivered;
static struct timespec read_at;
static ino_t read_inode;
static handle handles[GPUS][MIGS + 1];

static void refresh(void) {
    const char *path = getenv("FAKE_NVML_SCRIPT");
    struct stat now;
    char line[1200], section[48] = "";
    if (!path || stat(path, &now)) return;
    if (now.st_ino == read_inode && !memcmp(&now.st_mtim, &read_at, sizeof read_at)) return;
    FILE *file = fopen(path, "r");
    if (!file) return;
    read_inode = now.st_ino;
    read_at = now.st_mtim;
    used_lines = 0;
    while (fgets(line, sizeof line, file) && used_lines < LINES) {
        line[strcspn(line, "\r\n")] = 0;
        char *equals = strchr(line, '=');
        if (line[0] == '[') sscanf(line, "[%47[^]]", section);
        else if (equals && line[0] != '#') {
            char *end = equals;
            while (end > line && end[-1] == ' ') end--;
            *end = 0;
            equals += 1 + strspn(equals + 1, " ");
            snprintf(lines[used_lines].section, sizeof section, "%s", section);
            snprintf(lines[used_lines].key, sizeof lines[0].key, "%s", line);
            snprintf(lines[used_lines++].value, sizeof lines[0].value, "%s", equals);
        }
    }
    fclose(file);
    for (int g = 0; g < GPUS; g++)
        for (int m = 0; m <= MIGS; m++) handles[g][m] = (handle){g, m - 1};
}

static const char *find(const char *section, const char *key) {
    for (int i = 0; i < used_lines; i++)
        if (!strcmp(lines[i].section, section) && !strcmp(lines[i].key, key)) return lines[i].value;
    return NULL;
}

static const char *text(device of, const char *key) {
    char section[48];
    const char *found;
    if (of->mig < 0) snprintf(section, sizeof section, "gpu %d", of->gpu);
    else snprintf(section, sizeof section, "gpu %d mig %d", of->gpu, of->mig);
    if ((found = find(section, key)) || of->mig >= 0) return found;
    return find("gpu *", key);
}

static unsigned long long number(device of, const char *key, unsigned long long otherwise) {
    const char *found = text(of, key);
    return found ? strtoull(found, NULL, 0) : otherwise;
}

/* What every function does first: the error that the script wants, if any. */
static ret check(device of, const char *function) {
    char key[80];
    const char *code;
    refresh();
    snprintf(key, sizeof key, "error.%s", function);
    if ((code = find("system", key))) return atoi(code);
    if (!started) return UNINITIALIZED;
    if (!of) return OK;
    if ((code = text(of, key))) return atoi(code);
    return number(&handles[of->gpu][0], "lost", 0) ? LOST : OK;
}
#define CHECK(of) do { ret wrong = check(of, __func__); if (wrong) return wrong; } while (0)
#define UNLESS_SAID(of, key) do { if (!text(of, key)) return NOT_SUPPORTED; } while (0)

static ret put(const char *value, char *out, unsigned length) {
    if (!value) return NOT_SUPPORTED;
    if (strlen(value) + 1 > length) return SMALL;
    strcpy(out, value);
    return OK;
}

ret nvmlInitWithFlags(unsigned flags) {
    const char *code;
    (void)flags;
    refresh();
    if ((code = find("system", "init")) && atoi(code)) return atoi(code);
    started++;
    return OK;
}
ret nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
ret nvmlShutdown(void) { CHECK(NULL); started--; return OK; }
const char *nvmlErrorString(ret code) { (void)code; return "an error that the binding does not know"; }

static ret system_text(const char *function, const char *key, char *out, unsigned length) {
    ret wrong = check(NULL, function);
    return wrong ? wrong : put(find("system", key), out, length);
}
ret nvmlSystemGetDriverVersion(char *out, unsigned length) { return system_text(__func__, "driver", out, length); }
ret nvmlSystemGetNVMLVersion(char *out, unsigned length) { return system_text(__func__, "driver", out, length); }
ret nvmlSystemGetCudaDriverVersion_v2(int *out) {
    CHECK(NULL);
    const char *found = find("system", "cuda");
    if (!found) return NOT_SUPPORTED;
    *out = atoi(found);
    return OK;
}

ret nvmlDeviceGetCount_v2(unsigned *out) {
    CHECK(NULL);
    const char *found = find("system", "count"), *hang = find("system", "hang");
    if (hang) usleep((useconds_t)atoi(hang) * 1000);
    *out = found ? (unsigned)atoi(found) : 0;
    return OK;
}
ret nvmlDeviceGetHandleByIndex_v2(unsigned index, device *out) {
    if (index >= GPUS) return INVALID;
    CHECK(&handles[index][0]);
    *out = &handles[index][0];
    return OK;
}
ret nvmlDeviceGetUUID(device of, char *out, unsigned length) { CHECK(of); return put(text(of, "uuid"), out, length); }
ret nvmlDeviceGetName(device of, char *out, unsigned length) {
    CHECK(of);
    if (of->mig < 0) return put(text(of, "name"), out, length);
    snprintf(out, length, "%s MIG %s", text(&handles[of->gpu][0], "name"), text(of, "profile"));
    return OK;
}
ret nvmlDeviceGetMinorNumber(device of, unsigned *out) { CHECK(of); *out = (unsigned)of->gpu; return OK; }

static void put_pci(pci *out, const char *busid) {
    memset(out, 0, sizeof *out);
    snprintf(out->busid, sizeof out->busid, "%s", busid ? busid : "");
    sscanf(out->busid, "%x:%x:%x", &out->domain, &out->bus, &out->dev);
}
ret nvmlDeviceGetPciInfo_v3(device of, pci *out) { CHECK(of); put_pci(out, text(of, "busid")); return OK; }

#define MIB(of, key) (number(of, key, 0) << 20)
ret nvmlDeviceGetMemoryInfo(device of, unsigned long long out[3]) { /* total, free, used: with the reserve */
    CHECK(of);
    out[0] = MIB(of, "total");
    out[2] = MIB(of, "used") + MIB(of, "reserved");
    out[1] = out[0] - out[2];
    return OK;
}
ret nvmlDeviceGetMemoryInfo_v2(device of, memory_v2 *out) {
    CHECK(of);
    if (out->version != 0x02000028) return 25;
    out->total = MIB(of, "total");
    out->reserved = MIB(of, "reserved");
    out->used = MIB(of, "used");
    out->free = out->total - out->reserved - out->used;
    return OK;
}
ret nvmlDeviceGetUtilizationRates(device of, unsigned out[2]) {
    CHECK(of);
    if (number(of, "mig", 0)) return NOT_SUPPORTED;
    UNLESS_SAID(of, "util");
    out[0] = (unsigned)number(of, "util", 0);
    out[1] = (unsigned)number(of, "memutil", 0);
    return OK;
}
#define FIGURE(function, type, key) \
    ret function(device of, type *out) { CHECK(of); UNLESS_SAID(of, key); *out = (type)number(of, key, 0); return OK; }
FIGURE(nvmlDeviceGetPowerUsage, unsigned, "power")
FIGURE(nvmlDeviceGetEnforcedPowerLimit, unsigned, "limit")
FIGURE(nvmlDeviceGetTotalEnergyConsumption, unsigned long long, "energy")
FIGURE(nvmlDeviceGetMaxPcieLinkGeneration, unsigned, "gen")
FIGURE(nvmlDeviceGetMaxPcieLinkWidth, unsigned, "width")
FIGURE(nvmlDeviceGetGpuInstanceId, unsigned, "gi")
ret nvmlDeviceGetTemperature(device of, unsigned sensor, unsigned *out) {
    CHECK(of);
    if (sensor) return INVALID;
    UNLESS_SAID(of, "temp");
    *out = (unsigned)number(of, "temp", 0);
    return OK;
}
ret nvmlDeviceGetCudaComputeCapability(device of, int *major, int *minor) {
    CHECK(of);
    UNLESS_SAID(of, "cc");
    return sscanf(text(of, "cc"), "%d.%d", major, minor) == 2 ? OK : INVALID;
}
ret nvmlDeviceGetTotalEccErrors(device of, unsigned type, unsigned counter, unsigned long long *out) {
    CHECK(of);
    if (type != 1 || counter != 0) return INVALID;
    UNLESS_SAID(of, "ecc");
    *out = number(of, "ecc", 0);
    return OK;
}
ret nvmlDeviceGetRemappedRows(device of, unsigned *correctable, unsigned *uncorrectable, unsigned *pending, unsigned *failure) {
    CHECK(of);
    UNLESS_SAID(of, "rows");
    return sscanf(text(of, "rows"), "%u,%u,%u,%u", correctable, uncorrectable, pending, failure) == 4 ? OK : INVALID;
}
ret nvmlDeviceGetFieldValues(device of, int count, field *values) {
    CHECK(of);
    for (int i = 0; i < count; i++) {
        const char *key = values[i].fieldId == 230 ? "recovery" : values[i].fieldId == 82 ? "memtemp" : "";
        values[i].result = text(of, key) ? OK : NOT_SUPPORTED;
        values[i].type = 1;
        values[i].value.u = (unsigned)number(of, key, 0);
    }
    return OK;
}

static ret link_check(device of, const char *function, unsigned link) {
    ret wrong = check(of, function);
    return wrong ? wrong : link < number(of, "links", 0) ? OK : INVALID;
}
ret nvmlDeviceGetNvLinkState(device of, unsigned link, unsigned *out) { ret wrong = link_check(of, __func__, link); *out = 1; return wrong; }
ret nvmlDeviceGetNvLinkVersion(device of, unsigned link, unsigned *out) {
    ret wrong = link_check(of, __func__, link);
    *out = (unsigned)number(of, "version", 4);
    return wrong;
}
ret nvmlDeviceGetNvLinkRemoteDeviceType(device of, unsigned link, unsigned *out) {
    ret wrong = link_check(of, __func__, link);
    *out = number(of, "switch", 0) ? 2 : 0;
    return wrong;
}
ret nvmlDeviceGetNvLinkRemotePciInfo_v2(device of, unsigned link, pci *out) {
    ret wrong = link_check(of, __func__, link);
    const char *peers = text(of, "peers");
    unsigned peer, links, before = 0;
    int eaten;
    if (wrong) return wrong;
    for (; peers && sscanf(peers, "%u:%u%n", &peer, &links, &eaten) == 2; peers += eaten + (peers[eaten] == ','))
        if (link < (before += links) && peer < GPUS) {
            put_pci(out, text(&handles[peer][0], "busid"));
            return OK;
        }
    return NOT_SUPPORTED;
}
ret nvmlDeviceGetGpuFabricInfoV(device of, fabric_v2 *out) {
    CHECK(of);
    if (out->version != 0x02000024) return 25;
    const char *cluster = text(of, "cluster");
    out->status = OK;
    out->mask = 0;
    out->state = cluster ? 3 : 0;
    out->clique = (unsigned)number(of, "clique", 0);
    for (int i = 0; i < 16; i++) {
        unsigned byte = 0;
        if (cluster && strlen(cluster) == 32) sscanf(cluster + 2 * i, "%2x", &byte);
        out->cluster[i] = (unsigned char)byte;
    }
    return OK;
}

static ret processes(device of, const char *function, unsigned *count, process *out) {
    ret wrong = check(of, function);
    const char *list = text(of, "processes");
    unsigned room = *count, found = 0, pid, mib;
    int eaten;
    if (wrong) return wrong;
    for (; list && sscanf(list, "%u:%u%n", &pid, &mib, &eaten) == 2; list += eaten + (list[eaten] == ','), found++)
        if (out && found < room) out[found] = (process){pid, (unsigned long long)mib << 20, ABSENT, ABSENT};
    *count = found;
    return found > room ? SMALL : OK;
}
ret nvmlDeviceGetComputeRunningProcesses_v3(device of, unsigned *count, process *out) { return processes(of, __func__, count, out); }
ret nvmlDeviceGetComputeRunningProcesses_v2(device of, unsigned *count, process *out) { return processes(of, __func__, count, out); }

ret nvmlDeviceGetMigMode(device of, unsigned *current, unsigned *pending) {
    CHECK(of);
    *current = *pending = (unsigned)number(of, "mig", 0);
    return OK;
}
ret nvmlDeviceGetMaxMigDeviceCount(device of, unsigned *out) { CHECK(of); *out = 7; return OK; }
ret nvmlDeviceGetMigDeviceHandleByIndex(device of, unsigned index, device *out) {
    CHECK(of);
    if (index >= MIGS) return INVALID;
    device instance = &handles[of->gpu][index + 1];
    if (!text(instance, "uuid")) return NOT_FOUND;
    *out = instance;
    return OK;
}

ret nvmlEventSetCreate(void **out) { CHECK(NULL); *out = &delivered; return OK; }
ret nvmlEventSetFree(void *set) { (void)set; CHECK(NULL); return OK; }
ret nvmlDeviceRegisterEvents(device of, unsigned long long types, void *set) { (void)types; (void)set; CHECK(of); return OK; }
ret nvmlEventSetWait_v2(void *set, event *out, unsigned milliseconds) {
    (void)set;
    (void)milliseconds; /* the probe never waits; a script could not say for what */
    CHECK(NULL);
    char section[48];
    snprintf(section, sizeof section, "event %d", delivered + 1);
    const char *gpu = find(section, "gpu"), *xid = find(section, "xid");
    if (!gpu || !xid) return TIMEOUT;
    delivered++;
    *out = (event){&handles[atoi(gpu) % GPUS][0], 8, strtoull(xid, NULL, 0), ABSENT, ABSENT};
    return OK;
}
